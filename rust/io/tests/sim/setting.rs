//! Two nodes in a world, with the fixtures of the other tests on them.

use std::{
    future::Future,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::Duration,
};

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use wt_io::{
    certificate::{Certificate, sha256},
    config::{ClientConfig, ServerConfig},
};

use crate::{
    common::{EventLoop, Identity, Net, Pair},
    network::Network,
    node::Node,
    random::Random,
    world::World,
};

/// What a story plays on: a server and a client behind a NAT.
pub struct Stage {
    pub world: Arc<World>,
    pub net: Net,
    /// The server's address.
    pub host: String,
}

/// Play a story to its end, for at most `limit`, and see that it leaves nothing: no session, no connection, no task.
pub fn play<F>(
    seed: u64,
    limit: Duration,
    prepare: impl FnOnce(&mut Network),
    story: impl FnOnce(Stage) -> F,
) -> Result<Arc<World>, String>
where
    F: Future<Output = ()> + Send + 'static,
{
    let world = World::new(seed);
    prepare(&mut world.network.lock());
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
    let born = net.born();
    let stage = Stage {
        world: world.clone(),
        net,
        host: ip(1).to_string(),
    };
    world.run(limit, story(stage)).map_err(|stuck| stuck.to_string())?;
    let afterwards = server.driver().sleep(FORGETTING);
    world
        .run(2 * FORGETTING, afterwards)
        .map_err(|stuck| format!("after the end: {stuck}"))?;
    let (sessions, connections) = born.left();
    let tasks = [server.tasks(), client.tasks()];
    if (sessions, connections, tasks) == (0, 0, [0, 0]) {
        return Ok(world);
    }
    Err(format!(
        "left at the end: {sessions} sessions, {connections} connections, {tasks:?} tasks"
    ))
}

/// quinn forgets closed connections after three probe timeouts, and the weather of a seed comes by once more.
const FORGETTING: Duration = Duration::from_secs(120);

impl Stage {
    /// Server and client with one established session.
    pub async fn pair_with(&self, server: ServerConfig, client: ClientConfig) -> Pair {
        let listener = self
            .net
            .listen_on(&self.host, 443, server)
            .await
            .expect("the port is free");
        let dialer = self.net.dialer(client);
        let connection = dialer.connect(&self.host, 443).await.expect("connected");
        let client = dialer.request(&connection, "/");
        let server = listener.accept().await;
        client.established().await;
        assert!(client.is_connected());
        Pair {
            listener,
            dialer,
            client,
            server,
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
