//! What an endpoint tells about its socket.

mod common;

use common::{Net, both_drivers, eventually};
use wt_io::config::SOCKET_BUFFER;

both_drivers!(both_ends_know_their_socket, a_closed_server_has_none);

async fn both_ends_know_their_socket(net: Net) {
    let pair = net.pair().await;
    let (near, far) = (pair.client.connection(), pair.server.connection());
    for socket in [near.socket(), far.socket(), pair.listener.server.socket()] {
        assert!((1..=64).contains(&socket.gso_segments()), "{socket:?}");
        assert!((1..=64).contains(&socket.gro_segments()), "{socket:?}");
        // The system's limit, where that is less.
        for size in [socket.buffers.send, socket.buffers.receive] {
            assert!((2048..=SOCKET_BUFFER).contains(&size), "{socket:?}");
        }
    }
    assert_eq!(far.socket().port, pair.listener.port());
    pair.finish().await;
}

async fn a_closed_server_has_none(net: Net) {
    let listener = net.listen(net.server_config()).await;
    listener.close().await;
    let socket = listener.server.socket();
    eventually("it is let go", || socket.gso_segments() == 0).await;
    assert_eq!((socket.gro_segments(), socket.port), (0, listener.port()));
}
