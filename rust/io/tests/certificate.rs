//! Certificates: which are accepted, and what is said about the others.

mod common;

use std::time::{Duration, SystemTime};

use common::{Identity, Net, both_drivers, eventually};
use wt_io::{
    certificate::{Certificate, generate_ecdsa, generate_rsa, sha256},
    client::{Client, client_endpoint},
    config::{ClientConfig, ServerConfig, VerifyMode},
    error::{ConnectError, ListenError},
};

both_drivers!(
    an_unknown_issuer_is_refused,
    a_renewed_certificate_is_refused,
    a_wrong_host_name_is_refused,
    an_expired_certificate_is_refused,
    a_certificate_with_another_hash_is_refused,
    a_trusted_certificate_is_accepted,
    a_certificate_need_not_be_checked,
    a_client_certificate_is_demanded_and_accepted,
    rsa_certificates_work,
    unusable_settings_are_found_before_a_packet_is_sent,
);

async fn an_unknown_issuer_is_refused(net: Net) {
    let other = Identity::save(generate_ecdsa(&["another.example".into()], 1.0).expect("valid names"));
    let message = refusal(&net, &net.identity, "localhost", trusting(&other)).await;
    assert!(message.contains("'localhost'"), "{message}");
    assert!(message.contains("issuer is not trusted"), "{message}");
    assert!(message.contains("ca_certs"), "{message}");
}

async fn a_renewed_certificate_is_refused(net: Net) {
    // The same subject with another key: a development certificate that was made anew.
    let before = Identity::new();
    let message = refusal(&net, &net.identity, "localhost", trusting(&before)).await;
    assert!(message.contains("another key"), "{message}");
    assert!(message.contains("ca_certs"), "{message}");
}

async fn a_wrong_host_name_is_refused(net: Net) {
    let identity = Identity::save(generate_ecdsa(&["example.com".into()], 1.0).expect("valid names"));
    let message = refusal(&net, &identity, "127.0.0.1", trusting(&identity)).await;
    assert!(message.contains("does not cover '127.0.0.1'"), "{message}");
}

async fn an_expired_certificate_is_refused(net: Net) {
    let identity = Identity::save(expired());
    let message = refusal(&net, &identity, "127.0.0.1", trusting(&identity)).await;
    assert!(message.contains("has expired"), "{message}");
}

async fn a_certificate_with_another_hash_is_refused(net: Net) {
    let config = ClientConfig {
        certificate_hashes: vec![[7; 32], [8; 32]],
        ..net.client_config()
    };
    let message = refusal(&net, &net.identity, "127.0.0.1", config).await;
    assert!(message.contains("server_certificate_hashes"), "{message}");
    assert!(message.contains("SHA-256"), "{message}");
}

async fn a_trusted_certificate_is_accepted(net: Net) {
    for host in ["localhost", "127.0.0.1"] {
        connects(&net, net.server_config(), trusting(&net.identity), host).await;
    }
}

async fn a_certificate_need_not_be_checked(net: Net) {
    let identity = Identity::save(expired());
    let mut common = common::common_config();
    common.verify_mode = VerifyMode::None;
    let config = ClientConfig {
        common,
        certificate_hashes: Vec::new(),
    };
    connects(&net, server_with(&net, &identity), config, "localhost").await;
}

async fn a_client_certificate_is_demanded_and_accepted(net: Net) {
    let client_identity = Identity::new();
    let mut server = net.server_config();
    server.common.verify_mode = VerifyMode::Required;
    server.common.ca_certs = Some(client_identity.certfile());

    let listener = net.listen(server.clone()).await;
    let without = net.dialer(net.client_config());
    let refused = without.connect("127.0.0.1", listener.port()).await;
    let Err(ConnectError::Connection { message, .. }) = refused else {
        panic!("not refused: {refused:?}");
    };
    assert!(message.contains("demands a client certificate"), "{message}");
    listener.close().await;

    let mut client = net.client_config();
    client.common.certfile = Some(client_identity.certfile());
    client.common.keyfile = Some(client_identity.keyfile());
    connects(&net, server.clone(), client, "127.0.0.1").await;

    server.common.verify_mode = VerifyMode::Optional;
    connects(&net, server, net.client_config(), "127.0.0.1").await;
}

async fn rsa_certificates_work(net: Net) {
    let identity = Identity::save(generate_rsa(&["localhost".into()], 2048, 30).expect("valid names"));
    connects(&net, server_with(&net, &identity), trusting(&identity), "localhost").await;
}

async fn unusable_settings_are_found_before_a_packet_is_sent(net: Net) {
    let mut missing = net.server_config();
    missing.common.keyfile = Some("/nowhere/key.pem".into());
    let mut swapped = net.server_config();
    swapped.common.certfile = Some(net.identity.keyfile());
    let mut none = net.server_config();
    none.common.certfile = None;
    for (config, text) in [
        (missing, "/nowhere/key.pem"),
        (swapped, "no PEM certificate"),
        (none, "certfile"),
    ] {
        let refused = net.listen_on("127.0.0.1", 0, config).await.map(drop);
        let Err(ListenError::Tls(error)) = refused else {
            panic!("accepted: {refused:?}");
        };
        assert!(error.to_string().contains(text), "{error}");
    }
    let event_loop = &net.client_loop;
    let mut config = trusting(&net.identity);
    config.common.ca_certs = Some("/nowhere/ca.pem".into());
    let endpoint = client_endpoint(&event_loop.driver, config.common.preset).expect("a socket");
    let refused = Client::new(
        event_loop.driver.clone(),
        event_loop.port.clone(),
        endpoint.clone(),
        config,
    );
    let error = refused.map(drop).expect_err("no such file");
    assert_eq!(error.path(), Some("/nowhere/ca.pem".as_ref()));
    wt_io::endpoint::close(&endpoint);
}

/// What the client is told when the server shows this certificate.
async fn refusal(net: &Net, identity: &Identity, host: &str, config: ClientConfig) -> String {
    let listener = net.listen(server_with(net, identity)).await;
    let dialer = net.dialer(config);
    let refused = dialer.connect(host, listener.port()).await;
    let Err(ConnectError::Certificate(message)) = refused else {
        panic!("not refused for its certificate: {refused:?}");
    };
    let stats = listener.server.stats();
    eventually("the server counts it", || stats.handshakes_failed.get() == 1).await;
    assert_eq!(stats.connections_accepted.get(), 0);
    listener.close().await;
    message
}

async fn connects(net: &Net, server: ServerConfig, client: ClientConfig, host: &str) {
    let listener = net.listen(server).await;
    let dialer = net.dialer(client);
    let connection = dialer.connect(host, listener.port()).await.expect("connected");
    let client = dialer.request(&connection, "/");
    let server = listener.accept().await;
    client.established().await;
    client.close(0, "");
    server.closed().await;
    listener.close().await;
}

fn server_with(net: &Net, identity: &Identity) -> ServerConfig {
    let mut config = net.server_config();
    config.common.certfile = Some(identity.certfile());
    config.common.keyfile = Some(identity.keyfile());
    config
}

/// Trusts this certificate as an authority.
fn trusting(identity: &Identity) -> ClientConfig {
    let mut common = common::common_config();
    common.ca_certs = Some(identity.certfile());
    ClientConfig {
        common,
        certificate_hashes: Vec::new(),
    }
}

fn expired() -> Certificate {
    let day = Duration::from_secs(86_400);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).expect("a valid name");
    params.not_before = (SystemTime::now() - 3 * day).into();
    params.not_after = (SystemTime::now() - day).into();
    let certificate = params.self_signed(&key).expect("signed");
    Certificate {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        sha256: sha256(certificate.der()),
    }
}
