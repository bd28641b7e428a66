//! A client that writes its CONNECT stream by hand, and what arrives before or after a session.

mod common;

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use common::{Listener, Net, Peer, both_drivers, eventually};
use wt_io::{
    connection::Connection,
    error::{CloseCause, CloseInfo, Initiator, StreamEnd},
    proto::{
        capsule,
        dialect::Dialect,
        error_code::Code,
        frame,
        headers::ConnectRequest,
        stream_header::{encode_bi_header, encode_uni_header},
    },
    session::{SessionState, Stream},
};

both_drivers!(
    a_fin_is_a_close_without_a_code,
    a_reset_of_the_connect_stream_ends_the_session,
    capsules_of_a_foreign_client_are_understood,
    early_streams_and_datagrams_find_their_session,
    early_arrivals_expire,
    too_many_early_streams_are_turned_away,
    a_late_stream_is_told_that_its_session_is_gone,
);

async fn a_fin_is_a_close_without_a_code(net: Net) {
    let foreign = Foreign::connect(&net).await;
    let (mut send, mut recv, server) = foreign.session("/").await;
    send.finish().expect("not finished before");
    assert_eq!(server.closed().await, closed(0, "", Initiator::Peer));
    // The answer to a FIN is a FIN.
    let rest = recv.read_to_end(1000).await.expect("no reset");
    assert!(rest.is_empty());
    foreign.finish(server).await;
}

async fn a_reset_of_the_connect_stream_ends_the_session(net: Net) {
    let foreign = Foreign::connect(&net).await;
    let (mut send, _recv, server) = foreign.session("/").await;
    let stream = server.open_uni().await;
    server.write(&stream, b"begun", false).await.expect("written");
    send.reset(quinn_code(Code::H3_REQUEST_CANCELLED))
        .expect("not ended before");
    let info = server.closed().await;
    assert_eq!(info.cause, CloseCause::Reset(Code::H3_REQUEST_CANCELLED));
    assert_eq!(stream.end(), Some(StreamEnd::SessionClosed(info)));
    foreign.finish(server).await;
}

async fn capsules_of_a_foreign_client_are_understood(net: Net) {
    let foreign = Foreign::connect(&net).await;
    let (mut send, _recv, server) = foreign.session("/").await;
    let mut capsules = BytesMut::new();
    // One that nobody knows (RFC 9297 section 5.4), a datagram, and a wish to wind down, byte by byte.
    capsules.extend_from_slice(&[0x17, 0x03, 1, 2, 3]);
    capsules.extend_from_slice(&[0x00, 0x05, b'h', b'e', b'l', b'l', b'o']);
    capsule::encode_drain(&mut capsules);
    let mut framed = BytesMut::new();
    frame::data_frame(&capsules, &mut framed);
    for byte in framed {
        send.write_all(&[byte]).await.expect("written");
    }
    assert_eq!(server.datagram().await.expect("received"), "hello");
    eventually("it drains", || server.state() == SessionState::Draining).await;
    assert!(server.is_connected(), "a draining session still works");
    server.open_uni().await.finish();

    let (mut close, mut framed) = (BytesMut::new(), BytesMut::new());
    capsule::encode_close(7, "bye", &mut close);
    frame::data_frame(&close, &mut framed);
    send.write_all(&framed).await.expect("written");
    send.finish().expect("not finished before");
    assert_eq!(server.closed().await, closed(7, "bye", Initiator::Peer));
    foreign.finish(server).await;
}

async fn early_streams_and_datagrams_find_their_session(net: Net) {
    let foreign = Foreign::connect(&net).await;
    let quic = foreign.connection.quic().clone();
    quic.send_datagram(b"\x00early".as_ref().into()).expect("accepted");
    // Opened before the CONNECT stream, which then has the id 4.
    let (mut bi, _bi_recv) = quic.open_bi().await.expect("open");
    let mut uni = quic.open_uni().await.expect("open");
    let (mut bi_header, mut uni_header) = (BytesMut::new(), BytesMut::new());
    encode_bi_header(4, &mut bi_header);
    encode_uni_header(4, &mut uni_header);
    bi.write_all(&bi_header).await.expect("written");
    bi.write_all(b"early too").await.expect("written");
    bi.finish().expect("not finished before");
    uni.write_all(&uni_header).await.expect("written");
    uni.write_all(b"early").await.expect("written");
    uni.finish().expect("not finished before");
    quic.send_datagram(b"\x01early".as_ref().into()).expect("accepted");
    // Acknowledged means arrived: these streams are there before the CONNECT is.
    assert_eq!(bi.stopped().await, Ok(None));
    assert_eq!(uni.stopped().await, Ok(None));

    let (_send, _recv, server) = foreign.session("/").await;
    assert_eq!(server.id(), 4);
    let mut found = Vec::new();
    for _ in 0..2 {
        match server.accept_stream().await.expect("the session is open") {
            Stream::Bidirectional(send, recv) => {
                send.finish();
                found.push(server.read_to_end(&recv).await.expect("read"));
            }
            Stream::Recv(recv) => found.push(server.read_to_end(&recv).await.expect("read")),
            Stream::Send(_) => unreachable!("opened by the peer"),
        }
    }
    found.sort();
    assert_eq!(found, [b"early".to_vec(), b"early too".to_vec()]);
    assert_eq!(server.datagram().await.expect("received"), "early");
    assert!(
        matches!(server.try_receive_datagram(), Ok(None)),
        "the other datagram is for session 0"
    );
    foreign.finish(server).await;
}

async fn early_arrivals_expire(net: Net) {
    let mut config = net.server_config();
    config.common.pending_ttl = Duration::from_millis(50);
    let foreign = Foreign::connect_to(&net, net.listen(config).await).await;
    let quic = foreign.connection.quic().clone();
    quic.send_datagram(b"\x00early".as_ref().into()).expect("accepted");
    let mut uni = early_stream(&foreign.connection, 0).await;
    let code = uni.stopped().await.expect("the connection lives");
    assert_eq!(code, Some(quinn_code(Code::WT_BUFFERED_STREAM_REJECTED)));
    let server = foreign.listener.connection().await;
    eventually("the datagram expires too", || server.early_drops() == (1, 1)).await;
    assert_eq!(server.stats().streams_rejected.get(), 1);
    // The session comes too late for them.
    let (_send, _recv, session) = foreign.session("/").await;
    assert!(matches!(session.try_accept(), Ok(None)));
    assert!(matches!(session.try_receive_datagram(), Ok(None)));
    let _ = uni.reset(quinn_code(Code::H3_NO_ERROR));
    foreign.finish(session).await;
}

async fn too_many_early_streams_are_turned_away(net: Net) {
    let mut config = net.server_config();
    config.common.max_pending_per_session = 2;
    let foreign = Foreign::connect_to(&net, net.listen(config).await).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(early_stream(&foreign.connection, 0).await);
    }
    let server = foreign.listener.connection().await;
    eventually("three of five are too many", || server.early_drops() == (3, 0)).await;
    let (_send, _recv, session) = foreign.session("/").await;
    for _ in 0..2 {
        session.accept_uni().await.stop(0);
    }
    assert!(matches!(session.try_accept(), Ok(None)));
    foreign.finish(session).await;
}

async fn a_late_stream_is_told_that_its_session_is_gone(net: Net) {
    let pair = net.pair().await;
    pair.client.close(0, "");
    pair.client.closed().await;
    let server = pair.server.connection();
    eventually("the server has forgotten it", || server.session_count() == 0).await;
    let uni = early_stream(pair.client.connection(), 0).await;
    let code = uni.stopped().await.expect("the connection lives");
    assert_eq!(code, Some(quinn_code(Code::WT_SESSION_GONE)));
    pair.client
        .connection()
        .quic()
        .send_datagram(b"\x00late".as_ref().into())
        .expect("accepted");
    eventually("the datagram is dropped", || server.early_drops() == (1, 1)).await;
    drop(uni);
    pair.finish().await;
}

/// A client that writes its CONNECT stream by hand.
struct Foreign {
    listener: Listener,
    dialer: common::Dialer,
    connection: Arc<Connection>,
}

impl Foreign {
    async fn connect(net: &Net) -> Self {
        Self::connect_to(net, net.listen(net.server_config()).await).await
    }

    async fn connect_to(net: &Net, listener: Listener) -> Self {
        let dialer = net.dialer(net.client_config());
        let connection = dialer.connect("127.0.0.1", listener.port()).await.expect("connected");
        Self {
            listener,
            dialer,
            connection,
        }
    }

    /// An established session: the halves of its CONNECT stream behind request and response, and the server's view of it.
    async fn session(&self, path: &str) -> (quinn::SendStream, quinn::RecvStream, Peer) {
        let (mut send, mut recv) = self.connection.quic().open_bi().await.expect("open");
        let mut request = BytesMut::new();
        ConnectRequest::new(Dialect::D15, "localhost", path, Vec::new()).encode_frame(&mut request);
        send.write_all(&request).await.expect("written");
        let server = self.listener.accept().await;
        // HEADERS of three bytes: the prefix, and :status 200, entry 25 of the static table.
        let mut response = [0; 5];
        recv.read_exact(&mut response).await.expect("an answer");
        assert_eq!(response, [0x01, 0x03, 0x00, 0x00, 0xc0 | 25]);
        (send, recv, server)
    }

    async fn finish(self, server: Peer) {
        self.connection.close(0x100, "");
        server.closed().await;
        server.connection().lost().await;
        server.abandon();
        server.all_streams_closed().await;
        assert_eq!(server.connection().session_count(), 0);
        self.listener.close().await;
        drop(self.dialer);
    }
}

/// A unidirectional stream that the client opens for a session of its choice.
async fn early_stream(connection: &Connection, session: u64) -> quinn::SendStream {
    let mut stream = connection.quic().open_uni().await.expect("open");
    // In one piece: it may be turned away as soon as its header is read.
    let mut bytes = BytesMut::new();
    encode_uni_header(session, &mut bytes);
    bytes.extend_from_slice(b"early");
    stream.write_all(&bytes).await.expect("written");
    stream
}

fn quinn_code(code: Code) -> quinn::VarInt {
    quinn::VarInt::from_u64(code.0).expect("codes are below 2^62")
}

fn closed(code: u32, reason: &str, by: Initiator) -> CloseInfo {
    CloseInfo {
        code,
        reason: reason.to_owned(),
        by,
        cause: CloseCause::Closed,
    }
}
