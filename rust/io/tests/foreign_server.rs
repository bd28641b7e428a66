//! A client towards servers that break the rules, and towards one that stretches them: each fault has exactly one width.

mod common;

use std::sync::Arc;

use bytes::BytesMut;
use common::{
    Dialer, Net, Peer, both_drivers,
    raw::{RawServer, SETTINGS, closed_by_peer, in_vain, open, quinn_code},
};
use wt_io::{
    connection::Connection,
    error::{CloseCause, CloseInfo, Initiator},
    proto::{capsule, error_code::Code, frame, headers::Response},
    session::SessionState,
};

both_drivers!(
    what_is_reserved_means_nothing_wherever_it_stands,
    faults_of_the_control_stream_end_the_connection,
    faults_of_other_streams_end_the_connection,
    frames_that_a_response_does_not_have_end_the_connection,
    a_malformed_response_ends_its_stream_alone,
    a_bad_capsule_ends_its_session_alone,
    a_reset_ends_its_session_alone,
);

/// A frame and a capsule whose types that are reserved (RFC 9114 section 7.2.8, RFC 9297 section 5.4).
const RESERVED_FRAME: &[u8] = &[0x21, 0x03, b'a', b'b', b'c'];
const RESERVED_CAPSULE: &[u8] = &[0x17, 0x02, b'a', b'b'];

/// Both ends of a connection; the server's is plain QUIC.
struct Foreign {
    _server: RawServer,
    dialer: Dialer,
    connection: Arc<Connection>,
    quic: quinn::Connection,
    control: quinn::SendStream,
}

impl Foreign {
    async fn connect(net: &Net) -> Self {
        Self::connect_with(net, SETTINGS).await
    }

    async fn connect_with(net: &Net, settings: &[u8]) -> Self {
        let server = RawServer::listen(net, true);
        let dialer = net.dialer(net.client_config());
        let (connected, (quic, control)) = tokio::join!(dialer.connect("127.0.0.1", server.port()), async {
            let quic = server.accept().await;
            let control = open(&quic, settings).await;
            (quic, control)
        });
        Self {
            _server: server,
            connection: connected.expect("connected"),
            dialer,
            quic,
            control,
        }
    }

    /// A session that waits for its response, and the server's end of its stream.
    async fn request(&self) -> (Peer, quinn::SendStream, quinn::RecvStream) {
        let session = self.dialer.request(&self.connection, "/");
        let (send, mut recv) = self.quic.accept_bi().await.expect("the request");
        let mut kind = [0];
        recv.read_exact(&mut kind).await.expect("read");
        assert_eq!(kind, [0x01], "HEADERS");
        (session, send, recv)
    }

    async fn established(&self) -> (Peer, quinn::SendStream, quinn::RecvStream) {
        let (session, mut send, recv) = self.request().await;
        send.write_all(&response(200)).await.expect("written");
        session.established().await;
        (session, send, recv)
    }

    /// The client ends the connection with this code.
    async fn ends_with(self, code: Code) {
        assert_eq!(closed_by_peer(&self.quic).await, quinn_code(code));
        self.connection.lost().await;
    }

    /// The connection has not suffered: another session works.
    async fn lives(self) {
        let (session, mut send, _recv) = self.established().await;
        send.finish().expect("not finished before");
        assert_eq!(session.closed().await.cause, CloseCause::Closed);
        self.connection.close(Code::H3_NO_ERROR.0, "");
        assert_eq!(closed_by_peer(&self.quic).await, quinn_code(Code::H3_NO_ERROR));
    }
}

async fn what_is_reserved_means_nothing_wherever_it_stands(net: Net) {
    // The settings, and a reserved one of value 7.
    let settings = [&[0x00, 0x04, 0x0b], &SETTINGS[3..], &[0x21, 0x07]].concat();
    let mut foreign = Foreign::connect_with(&net, &settings).await;
    foreign.control.write_all(RESERVED_FRAME).await.expect("written");
    let refused = open(&foreign.quic, &[0x21, 1, 2, 3]).await;
    let code = refused.stopped().await.expect("the connection lives");
    assert_eq!(code, Some(quinn_code(Code::H3_STREAM_CREATION_ERROR)));

    let (session, mut send, _recv) = foreign.request().await;
    let mut answer = RESERVED_FRAME.to_vec();
    // An interim response, and one with a field that nobody knows.
    answer.extend(response(103));
    answer.extend(RESERVED_FRAME);
    answer.extend(response_with("x-reserved", "?"));
    answer.extend(RESERVED_FRAME);
    let datagram = [&[0x00, 0x02][..], b"hi"].concat();
    for capsule in [RESERVED_CAPSULE, b"", &datagram, RESERVED_CAPSULE] {
        answer.extend(data(capsule));
    }
    // In pieces that end anywhere.
    for piece in answer.chunks(3) {
        send.write_all(piece).await.expect("written");
    }
    session.established().await;
    assert_eq!(session.datagram().await.expect("received"), "hi");
    // A code that is reserved ends the stream like any other (RFC 9114 section 8.1).
    send.reset(quinn_code(Code(0x21 + 0x1f * 8))).expect("not ended before");
    let info = session.closed().await;
    assert_eq!(info.cause, CloseCause::Reset(Code(0x21 + 0x1f * 8)));
    foreign.lives().await;
}

async fn faults_of_the_control_stream_end_the_connection(net: Net) {
    for (bytes, code) in [
        // A second SETTINGS frame; a GOAWAY that names no request, or more requests than before.
        (&[0x04, 0x00][..], Code::H3_FRAME_UNEXPECTED),
        (&[0x07, 0x01, 0x01], Code::H3_ID_ERROR),
        (&[0x07, 0x01, 0x04, 0x07, 0x01, 0x08], Code::H3_ID_ERROR),
        // Too short and too long for its id.
        (&[0x07, 0x00], Code::H3_FRAME_ERROR),
        (&[0x07, 0x02, 0x04, 0x04], Code::H3_FRAME_ERROR),
        // MAX_PUSH_ID and PRIORITY_UPDATE belong to clients, CANCEL_PUSH to a push, PUSH_PROMISE to a request.
        (&[0x0d, 0x01, 0x00], Code::H3_FRAME_UNEXPECTED),
        (&[0x80, 0x0f, 0x07, 0x00, 0x01, 0x00], Code::H3_FRAME_UNEXPECTED),
        (&[0x80, 0x0f, 0x07, 0x01, 0x01, 0x00], Code::H3_FRAME_UNEXPECTED),
        (&[0x03, 0x01, 0x00], Code::H3_ID_ERROR),
        (&[0x05, 0x01, 0x00], Code::H3_FRAME_UNEXPECTED),
        // DATA, HEADERS, a frame of HTTP/2, the signal of WebTransport.
        (&[0x00, 0x00], Code::H3_FRAME_UNEXPECTED),
        (&[0x01, 0x00], Code::H3_FRAME_UNEXPECTED),
        (&[0x06, 0x00], Code::H3_FRAME_UNEXPECTED),
        (&[0x40, 0x41, 0x00], Code::H3_FRAME_ERROR),
    ] {
        let mut foreign = Foreign::connect(&net).await;
        foreign.control.write_all(bytes).await.expect("written");
        foreign.ends_with(code).await;
    }
    let mut foreign = Foreign::connect(&net).await;
    foreign.control.finish().expect("not finished before");
    foreign.ends_with(Code::H3_CLOSED_CRITICAL_STREAM).await;
    let mut foreign = Foreign::connect(&net).await;
    foreign.control.write_all(&[0x07]).await.expect("written");
    foreign.control.finish().expect("not finished before");
    foreign.ends_with(Code::H3_CLOSED_CRITICAL_STREAM).await;
}

async fn faults_of_other_streams_end_the_connection(net: Net) {
    for (bytes, code) in [
        // A second control stream, a push stream, a session that cannot be.
        (&[0x00, 0x04, 0x00][..], Code::H3_STREAM_CREATION_ERROR),
        (&[0x01, 0x00], Code::H3_ID_ERROR),
        (&[0x40, 0x54, 0x03], Code::H3_ID_ERROR),
    ] {
        let foreign = Foreign::connect(&net).await;
        let _stream = open(&foreign.quic, bytes).await;
        foreign.ends_with(code).await;
    }
    for datagram in [&[][..], &[0x40], &[0xd0, 0, 0, 0, 0, 0, 0, 0]] {
        let foreign = Foreign::connect(&net).await;
        foreign.quic.send_datagram(datagram.to_vec().into()).expect("accepted");
        foreign.ends_with(Code::H3_DATAGRAM_ERROR).await;
    }
}

async fn frames_that_a_response_does_not_have_end_the_connection(net: Net) {
    let ok = response(200);
    for (bytes, code) in [
        // DATA before the response, a second response behind it, a push, SETTINGS, the signal of WebTransport.
        (data(b""), Code::H3_FRAME_UNEXPECTED),
        ([ok.clone(), ok.clone()].concat(), Code::H3_FRAME_UNEXPECTED),
        ([ok.clone(), vec![0x05, 0x01, 0x00]].concat(), Code::H3_ID_ERROR),
        ([ok.clone(), vec![0x04, 0x00]].concat(), Code::H3_FRAME_UNEXPECTED),
        ([ok.clone(), vec![0x40, 0x41, 0x00]].concat(), Code::H3_FRAME_ERROR),
    ] {
        let foreign = Foreign::connect(&net).await;
        let (session, mut send, _recv) = foreign.request().await;
        send.write_all(&bytes).await.expect("written");
        foreign.ends_with(code).await;
        assert_eq!(session.closed().await.cause, CloseCause::ConnectionLost);
    }
    // Half a frame, and then the end.
    let foreign = Foreign::connect(&net).await;
    let (_session, mut send, _recv) = foreign.established().await;
    send.write_all(&[0x00, 0x05, 0x00]).await.expect("written");
    send.finish().expect("not finished before");
    foreign.ends_with(Code::H3_FRAME_ERROR).await;
}

async fn a_malformed_response_ends_its_stream_alone(net: Net) {
    for answer in [
        // No status, a status of 101, a field of HTTP/1.1 and one in upper case, a pseudo-header of requests.
        vec![0x01, 0x02, 0x00, 0x00],
        response(101),
        section(b"\xd9\x27\x03connection\x05close"),
        section(b"\xd9\x21A\x01b"),
        section(b"\xd9\xc1"),
        // A session has neither another kind of content nor a length.
        response(204),
        section(b"\xd9\xc4"),
    ] {
        let foreign = Foreign::connect(&net).await;
        let (session, mut send, mut recv) = foreign.request().await;
        send.write_all(&answer).await.expect("written");
        let stopped = send.stopped().await.expect("the connection lives");
        assert_eq!(stopped, Some(quinn_code(Code::H3_MESSAGE_ERROR)), "{answer:02x?}");
        assert_eq!(reset(&mut recv).await, quinn_code(Code::H3_MESSAGE_ERROR));
        assert!(matches!(session.closed().await.cause, CloseCause::Protocol(_)));
        foreign.lives().await;
    }
}

async fn a_bad_capsule_ends_its_session_alone(net: Net) {
    let mut close = BytesMut::new();
    capsule::encode_close(7, "bye", &mut close);
    for (capsules, is_closed) in [
        // A reason of 1025 bytes, one that is no UTF-8, half a code, a DRAIN that is not empty, bytes behind a CLOSE.
        (
            [&[0x68, 0x43, 0x44, 0x05, 0, 0, 0, 7][..], &[b'x'; 1025]].concat(),
            false,
        ),
        (vec![0x68, 0x43, 0x05, 0, 0, 0, 7, 0xff], false),
        (vec![0x68, 0x43, 0x02, 0, 0], false),
        (vec![0x80, 0x00, 0x78, 0xae, 0x01, 0x00], false),
        ([&close[..], RESERVED_CAPSULE].concat(), true),
    ] {
        let foreign = Foreign::connect(&net).await;
        let (session, mut send, mut recv) = foreign.established().await;
        send.write_all(&data(&capsules)).await.expect("written");
        let stopped = send.stopped().await.expect("the connection lives");
        assert_eq!(stopped, Some(quinn_code(Code::H3_MESSAGE_ERROR)), "{capsules:02x?}");
        assert_eq!(reset(&mut recv).await, quinn_code(Code::H3_MESSAGE_ERROR));
        let info = session.closed().await;
        if is_closed {
            let bye = CloseInfo {
                code: 7,
                reason: "bye".into(),
                by: Initiator::Peer,
                cause: CloseCause::Closed,
            };
            assert_eq!(info, bye, "the close counts all the same");
        } else {
            assert!(matches!(info.cause, CloseCause::Protocol(_)), "{info:?}");
        }
        foreign.lives().await;
    }
    // The end of the stream inside a capsule.
    let foreign = Foreign::connect(&net).await;
    let (session, mut send, _recv) = foreign.established().await;
    send.write_all(&data(&[0x68, 0x43, 0x04, 0])).await.expect("written");
    send.finish().expect("not finished before");
    assert!(matches!(session.closed().await.cause, CloseCause::Protocol(_)));
    foreign.lives().await;
}

async fn a_reset_ends_its_session_alone(net: Net) {
    let foreign = Foreign::connect(&net).await;
    let (session, mut send, mut recv) = foreign.established().await;
    send.reset(quinn_code(Code::H3_REQUEST_CANCELLED))
        .expect("not ended before");
    assert_eq!(
        session.closed().await.cause,
        CloseCause::Reset(Code::H3_REQUEST_CANCELLED)
    );
    assert_eq!(session.state(), SessionState::Closed);
    assert_eq!(reset(&mut recv).await, quinn_code(Code::H3_REQUEST_CANCELLED));
    // One that is stopped too.
    let (session, _send, mut recv) = foreign.established().await;
    recv.stop(quinn_code(Code::H3_REQUEST_CANCELLED))
        .expect("not stopped before");
    assert_eq!(
        session.closed().await.cause,
        CloseCause::Reset(Code::H3_REQUEST_CANCELLED)
    );
    assert!(in_vain(foreign.quic.closed()).await, "the connection lives");
    foreign.lives().await;
}

fn response(status: u16) -> Vec<u8> {
    encode(&Response::new(status, Vec::new()))
}

fn response_with(name: &str, value: &str) -> Vec<u8> {
    encode(&Response::new(200, vec![(name.to_owned(), value.to_owned())]))
}

fn encode(response: &Response) -> Vec<u8> {
    let mut frame = BytesMut::new();
    response.encode_frame(&mut frame);
    frame.to_vec()
}

/// A HEADERS frame with these lines of a field section.
fn section(lines: &[u8]) -> Vec<u8> {
    [&[0x01, lines.len() as u8 + 2, 0x00, 0x00], lines].concat()
}

fn data(capsules: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    frame::data_frame(capsules, &mut bytes);
    bytes.to_vec()
}

/// The code of a reset, whatever was sent before it.
async fn reset(recv: &mut quinn::RecvStream) -> quinn::VarInt {
    match recv.read_to_end(1_000).await {
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => code,
        other => panic!("must be reset: {other:?}"),
    }
}
