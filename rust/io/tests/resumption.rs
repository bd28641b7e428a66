//! TLS sessions that are resumed, and those that must not be.

mod common;

use common::{Dialer, Identity, Listener, Net, both_drivers, common_config};
use wt_io::{
    certificate::sha256,
    config::{ClientConfig, ServerConfig, VerifyMode},
    error::ConnectError,
};

both_drivers!(
    a_client_that_comes_back_resumes,
    another_client_does_not_resume,
    other_settings_do_not_resume_what_they_would_refuse,
    another_certificate_under_the_same_name_is_checked,
    a_restarted_server_is_met_by_full_handshakes,
    a_server_that_checks_clients_sees_their_certificates_each_time,
    files_are_read_once,
);

/// Connect, use the session, close it; how many handshakes the server has resumed by then.
async fn visit(dialer: &Dialer, listener: &Listener) -> u64 {
    let (client, server) = dialer.session(listener).await;
    client.close(0, "");
    server.closed().await;
    listener.server.stats().handshakes_resumed.get()
}

async fn a_client_that_comes_back_resumes(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let dialer = net.dialer(net.client_config());
    for resumed in 0..5 {
        assert_eq!(visit(&dialer, &listener).await, resumed);
    }
    // All its connections at once too: each brings a ticket more than it uses.
    let mut sessions = Vec::new();
    for _ in 0..6 {
        sessions.push(dialer.session(&listener).await);
    }
    assert_eq!(listener.server.stats().handshakes_resumed.get(), 10);
    for (client, server) in &sessions {
        client.close(0, "");
        server.closed().await;
    }
    listener.close().await;
}

async fn another_client_does_not_resume(net: Net) {
    let listener = net.listen(net.server_config()).await;
    for _ in 0..3 {
        assert_eq!(visit(&net.dialer(net.client_config()), &listener).await, 0);
    }
    listener.close().await;
}

fn unverified() -> ClientConfig {
    let mut common = common_config();
    common.verify_mode = VerifyMode::None;
    ClientConfig {
        common,
        certificate_hashes: Vec::new(),
    }
}

async fn refused(dialer: &Dialer, listener: &Listener) {
    let refused = dialer.connect("127.0.0.1", listener.port()).await;
    assert!(matches!(refused, Err(ConnectError::Certificate(_))), "{refused:?}");
}

async fn other_settings_do_not_resume_what_they_would_refuse(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let careless = net.dialer(unverified());
    assert_eq!(visit(&careless, &listener).await, 0);
    let pinned = ClientConfig {
        certificate_hashes: vec![sha256(b"another certificate")],
        ..net.client_config()
    };
    let other = Identity::new();
    let mut trusting = unverified();
    trusting.common.verify_mode = VerifyMode::Required;
    trusting.common.ca_certs = Some(other.certfile());
    for strict in [pinned, trusting] {
        refused(&net.dialer(strict), &listener).await;
    }
    assert_eq!(visit(&careless, &listener).await, 1);
    listener.close().await;
}

async fn another_certificate_under_the_same_name_is_checked(net: Net) {
    let dialer = net.dialer(net.client_config());
    let listener = net.listen(net.server_config()).await;
    assert_eq!(visit(&dialer, &listener).await, 0);
    assert_eq!(visit(&dialer, &listener).await, 1);
    let other = Identity::new();
    let impostor = net.listen(server_with(&net, &other)).await;
    refused(&dialer, &impostor).await;
    assert_eq!(impostor.server.stats().handshakes_resumed.get(), 0);
    // The first one's tickets are still good.
    assert_eq!(visit(&dialer, &listener).await, 2);
    impostor.close().await;
    listener.close().await;
}

async fn a_restarted_server_is_met_by_full_handshakes(net: Net) {
    let dialer = net.dialer(net.client_config());
    for _ in 0..3 {
        let listener = net.listen(net.server_config()).await;
        assert_eq!(visit(&dialer, &listener).await, 0);
        assert_eq!(visit(&dialer, &listener).await, 1);
        listener.close().await;
    }
}

async fn a_server_that_checks_clients_sees_their_certificates_each_time(net: Net) {
    let identity = Identity::new();
    for mode in [VerifyMode::Optional, VerifyMode::Required] {
        let mut server = net.server_config();
        server.common.verify_mode = mode;
        server.common.ca_certs = Some(identity.certfile());
        let listener = net.listen(server).await;
        let mut client = net.client_config();
        client.common.certfile = Some(identity.certfile());
        client.common.keyfile = Some(identity.keyfile());
        let dialer = net.dialer(client);
        for _ in 0..3 {
            assert_eq!(visit(&dialer, &listener).await, 0);
        }
        listener.close().await;
    }
}

async fn files_are_read_once(net: Net) {
    let identity = Identity::new();
    let listener = net.listen(server_with(&net, &identity)).await;
    let mut client = unverified();
    client.common.verify_mode = VerifyMode::Required;
    client.common.ca_certs = Some(identity.certfile());
    let (first, second) = (net.dialer(client.clone()), net.dialer(client));
    // Its files go with it.
    drop(identity);
    for dialer in [first, second] {
        assert!(visit(&dialer, &listener).await < 2);
        visit(&dialer, &listener).await;
    }
    assert_eq!(listener.server.stats().handshakes_resumed.get(), 2);
    listener.close().await;
}

fn server_with(net: &Net, identity: &Identity) -> ServerConfig {
    let mut config = net.server_config();
    config.common.certfile = Some(identity.certfile());
    config.common.keyfile = Some(identity.keyfile());
    config
}
