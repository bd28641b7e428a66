//! Two nodes in a world, and the test fixtures on them.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
};

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use wt_io::certificate::{Certificate, sha256};

use crate::{
    common::{EventLoop, Identity, Net},
    node::Node,
    random::Random,
    world::World,
};

/// A server, a client behind a NAT, and their event loops.
pub struct Setting {
    pub world: Arc<World>,
    pub server: Arc<Node>,
    pub client: Arc<Node>,
    pub net: Net,
    /// The server's address.
    pub host: String,
}

impl Setting {
    pub fn new(seed: u64) -> Self {
        let world = World::new(seed);
        // wt-io has a list of the process's endpoints, which tells them by their addresses: each world has its own.
        static NUMBER: AtomicU16 = AtomicU16::new(0);
        let [high, low] = NUMBER.fetch_add(1, Relaxed).to_be_bytes();
        let ip = |last| Ipv4Addr::new(10, high, low, last);
        let server = Node::new(&world, ip(1), Random::new(seed, "server"));
        let client = Node::new(&world, ip(2), Random::new(seed, "client"));
        let net = Net::on(
            EventLoop::on(server.driver()),
            EventLoop::on(client.driver()),
            Identity::save(certificate()),
        );
        Self {
            world,
            server,
            client,
            net,
            host: ip(1).to_string(),
        }
    }
}

/// A certificate that is the same in every run: its signatures, the serial number made from its key, and with them the
/// sizes of the handshake's packets. An ECDSA signature has 70 to 72 bytes, as chance will have it.
fn certificate() -> Certificate {
    // RFC 8410 section 7: the frame of an Ed25519 key in PKCS #8; the key itself is no secret.
    let mut pkcs8 = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pkcs8.extend([7; 32]);
    let pkcs8 = rustls::pki_types::PrivatePkcs8KeyDer::from(pkcs8);
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ED25519).expect("a valid key");
    // rcgen's validity is fixed, 1975 to 4096.
    let params = CertificateParams::new(vec!["localhost".into()]).expect("a valid name");
    let certificate = params.self_signed(&key).expect("a signature");
    Certificate {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        sha256: sha256(certificate.der()),
    }
}
