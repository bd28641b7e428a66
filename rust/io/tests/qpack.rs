//! Field compression without a dynamic table (RFC 9204), towards peers that write their streams by hand over plain quinn.

mod common;

use common::{
    Net, both_drivers,
    raw::{RawClient, RawServer, SETTINGS, closed_by_peer, in_vain, open, quinn_code, reset_code},
};
use wt_io::{
    error::CloseCause,
    proto::{dialect::Dialect, error_code::Code, headers::ConnectRequest},
};

both_drivers!(
    qpack_streams_that_need_no_table_are_welcome,
    instructions_for_a_table_end_the_connection,
    a_second_qpack_stream_ends_the_connection,
    a_qpack_stream_that_is_reset_ends_the_connection,
    a_request_that_cannot_be_decoded_ends_the_connection,
    a_response_that_cannot_be_decoded_ends_the_connection,
    a_request_with_a_value_too_large_ends_its_stream_alone,
    a_request_with_a_large_field_is_accepted,
);

async fn qpack_streams_that_need_no_table_are_welcome(net: Net) {
    let raw = RawClient::ready(&net).await;
    // Capacity 0, twice; streams 0 and 4 cancelled.
    let encoder = open(&raw.quic, &[0x02, 0x20, 0x20]).await;
    let decoder = open(&raw.quic, &[0x03, 0x40, 0x44]).await;
    let (_send, _recv) = raw.request().await;
    let session = raw.listener.accept().await;
    for stream in [&encoder, &decoder] {
        assert!(in_vain(stream.stopped()).await, "no STOP_SENDING");
    }
    // This side opens its control stream and neither of the two.
    let _control = raw.quic.accept_uni().await.expect("a stream");
    assert!(in_vain(raw.quic.accept_uni()).await, "no other stream");
    raw.finish().await;
    session.closed().await;
}

async fn instructions_for_a_table_end_the_connection(net: Net) {
    for (bytes, code) in [
        // A capacity, an insertion with the name of a static entry, of one that does not exist, with a name, a duplicate.
        (&[0x02, 0x21][..], Code::QPACK_ENCODER_STREAM_ERROR),
        (&[0x02, 0xc0, 0x01, b'a'], Code::QPACK_ENCODER_STREAM_ERROR),
        (&[0x02, 0xff, 0x24, 0x01, b'a'], Code::QPACK_ENCODER_STREAM_ERROR),
        (&[0x02, 0x41, b'a', 0x01, b'b'], Code::QPACK_ENCODER_STREAM_ERROR),
        (&[0x02, 0x00], Code::QPACK_ENCODER_STREAM_ERROR),
        // A section that needed no acknowledgement, no insertion, an insertion that never was, a stream id of 63 bits.
        (&[0x03, 0x80], Code::QPACK_DECODER_STREAM_ERROR),
        (&[0x03, 0x00], Code::QPACK_DECODER_STREAM_ERROR),
        (&[0x03, 0x01], Code::QPACK_DECODER_STREAM_ERROR),
        (
            &[0x03, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            Code::QPACK_DECODER_STREAM_ERROR,
        ),
    ] {
        let raw = RawClient::ready(&net).await;
        let _stream = open(&raw.quic, bytes).await;
        raw.ends_with(code).await;
    }
}

async fn a_second_qpack_stream_ends_the_connection(net: Net) {
    for kind in [0x02, 0x03] {
        let raw = RawClient::ready(&net).await;
        let _first = open(&raw.quic, &[kind]).await;
        let _second = open(&raw.quic, &[kind]).await;
        raw.ends_with(Code::H3_STREAM_CREATION_ERROR).await;
    }
}

async fn a_qpack_stream_that_is_reset_ends_the_connection(net: Net) {
    for bytes in [&[0x02, 0x20][..], &[0x03, 0x44]] {
        let raw = RawClient::ready(&net).await;
        let mut stream = open(&raw.quic, bytes).await;
        // A reset that overtakes the type of the stream would be one of an unknown stream.
        let (_send, _recv) = raw.request().await;
        let session = raw.listener.accept().await;
        stream.reset(quinn_code(Code::H3_NO_ERROR)).expect("not ended before");
        raw.ends_with(Code::H3_CLOSED_CRITICAL_STREAM).await;
        session.closed().await;
    }
}

async fn a_request_that_cannot_be_decoded_ends_the_connection(net: Net) {
    for section in [
        // A Required Insert Count, a negative base, an entry of the dynamic table, a static one too many, half a string,
        // Huffman code that ends in zeros.
        &[0x02, 0x00, 0xd1][..],
        &[0x00, 0x80, 0xd1],
        &[0x00, 0x00, 0x80],
        &[0x00, 0x00, 0xff, 0x24],
        &[0x00, 0x00, 0x21, b'a', 0x02, b'b'],
        &[0x00, 0x00, 0x21, b'a', 0x81, 0x18],
    ] {
        let raw = RawClient::ready(&net).await;
        let (mut send, _recv) = raw.quic.open_bi().await.expect("open");
        send.write_all(&headers_frame(section)).await.expect("written");
        raw.ends_with(Code::QPACK_DECOMPRESSION_FAILED).await;
    }
}

async fn a_response_that_cannot_be_decoded_ends_the_connection(net: Net) {
    let server = RawServer::listen(&net, true);
    let dialer = net.dialer(net.client_config());
    let (connected, (quic, _control)) = tokio::join!(dialer.connect("127.0.0.1", server.port()), async {
        let quic = server.accept().await;
        let control = open(&quic, SETTINGS).await;
        (quic, control)
    });
    let connection = connected.expect("connected");
    let session = dialer.request(&connection, "/");
    let (mut send, _recv) = quic.accept_bi().await.expect("the request");
    // 200, and a line that names an entry behind the base.
    send.write_all(&headers_frame(&[0x00, 0x00, 0xd9, 0x10]))
        .await
        .expect("written");
    assert_eq!(
        closed_by_peer(&quic).await,
        quinn_code(Code::QPACK_DECOMPRESSION_FAILED)
    );
    assert_eq!(session.closed().await.cause, CloseCause::ConnectionLost);
}

async fn a_request_with_a_value_too_large_ends_its_stream_alone(net: Net) {
    let raw = RawClient::ready(&net).await;
    let (mut send, mut recv) = raw.quic.open_bi().await.expect("open");
    let integer = [&[0x00, 0x00, 0xff][..], &[0xff; 9], &[0x01]].concat();
    send.write_all(&headers_frame(&integer)).await.expect("written");
    assert_eq!(
        reset_code(&mut recv).await,
        quinn_code(Code::QPACK_DECOMPRESSION_FAILED)
    );
    let (_send, _recv) = raw.request().await;
    let session = raw.listener.accept().await;
    raw.finish().await;
    session.closed().await;
}

async fn a_request_with_a_large_field_is_accepted(net: Net) {
    let raw = RawClient::ready(&net).await;
    let (mut send, _recv) = raw.quic.open_bi().await.expect("open");
    let value = "x".repeat(60_000);
    let mut request = bytes::BytesMut::new();
    let headers = vec![("authorization".to_owned(), value.clone())];
    ConnectRequest::new(Dialect::D15, "localhost", "/", headers.clone()).encode_frame(&mut request);
    send.write_all(&request).await.expect("written");
    let session = raw.listener.accept().await;
    let received = session.request().expect("a request");
    assert!(
        received.headers == headers,
        "{} bytes came",
        received.headers[0].1.len()
    );
    raw.finish().await;
    session.closed().await;
}

fn headers_frame(section: &[u8]) -> Vec<u8> {
    [&[0x01, section.len() as u8], section].concat()
}
