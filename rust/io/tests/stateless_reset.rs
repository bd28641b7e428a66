//! A server that is started again and meets the connections of its predecessor.

mod common;

use std::time::Duration;

use common::{Net, both_drivers};
use wt_io::{
    config::{ClientConfig, ServerConfig},
    error::{CloseCause, CloseInfo, Initiator},
    stateless_reset::ResetKey,
};

both_drivers!(
    a_successor_with_the_key_ends_old_connections_at_once,
    a_successor_with_another_key_cannot_end_them,
    connections_of_a_server_with_a_key_are_as_any_other,
);

fn server_config(net: &Net, key: &[u8]) -> ServerConfig {
    ServerConfig {
        stateless_reset_key: Some(ResetKey::new(key)),
        ..net.server_config()
    }
}

/// The end of the client's session when a server with the key `second` takes the place of one with the key `first`.
async fn succeeded(net: &Net, client: ClientConfig, first: &[u8], second: &[u8]) -> CloseInfo {
    let (relay, pair) = net.relayed_pair(server_config(net, first), client).await;
    pair.client.send(b"before").await.expect("accepted");
    assert_eq!(&pair.server.datagram().await.expect("received")[..], b"before");
    let successor = net.listen(server_config(net, second)).await;
    relay.retarget(successor.address()).await;
    pair.client.send(b"after").await.expect("accepted");
    let info = pair.client.closed().await;
    // The client reaches the successor by the same path.
    let (again, _) = pair.dialer.session_through(relay.port(), &successor).await;
    again.close(0, "");
    again.closed().await;
    successor.close().await;
    pair.listener.close().await;
    info
}

async fn a_successor_with_the_key_ends_old_connections_at_once(net: Net) {
    let mut client = net.client_config();
    client.common.idle_timeout = Duration::from_secs(3600);
    let info = succeeded(&net, client, &[7; 64], &[7; 64]).await;
    assert_eq!(
        (info.cause, info.by),
        (CloseCause::ConnectionLost, Initiator::Transport)
    );
    assert!(info.reason.contains("stateless reset"), "{}", info.reason);
}

async fn a_successor_with_another_key_cannot_end_them(net: Net) {
    let mut client = net.client_config();
    client.common.idle_timeout = Duration::from_millis(300);
    let info = succeeded(&net, client, &[7; 64], &[8; 64]).await;
    assert_eq!(
        (info.cause, info.by),
        (CloseCause::ConnectionLost, Initiator::Transport)
    );
    assert!(info.reason.contains("idle timeout"), "{}", info.reason);
}

async fn connections_of_a_server_with_a_key_are_as_any_other(net: Net) {
    let pair = net.pair_with(server_config(&net, &[7; 64]), net.client_config()).await;
    let (near, _) = pair.client.open_bi().await;
    pair.client.write(&near, b"as any other", true).await.expect("open");
    let (_, far) = pair.server.accept_bi().await;
    assert_eq!(pair.server.read_to_end(&far).await.expect("finished"), b"as any other");
    pair.finish().await;
}

#[test]
fn a_key_does_not_show() {
    assert_eq!(format!("{:?}", ResetKey::new(b"a secret")), "ResetKey(..)");
}
