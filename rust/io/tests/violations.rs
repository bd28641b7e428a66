//! A client that breaks the rules of WebTransport flow control and of the number of sessions (draft-16 section 5).

mod common;

use bytes::BytesMut;
use common::{
    Net, both_drivers,
    raw::{RawClient, SETTINGS, quinn_code, reset_code},
};
use wt_io::{
    config::{CommonConfig, ServerConfig},
    proto::{
        capsule::Capsule,
        error_code::Code,
        frame,
        stream_header::{encode_bi_header, encode_uni_header},
    },
};

both_drivers!(
    too_many_streams_end_the_session,
    too_much_data_ends_the_session,
    limits_that_cannot_be_end_the_session,
    without_flow_control_its_capsules_mean_nothing,
    a_surplus_session_is_reset,
    sessions_that_ended_without_a_fin_are_few,
);

/// `SETTINGS` and WT_INITIAL_MAX_DATA = 63.
const WITH_FLOW_CONTROL: &[u8] = &[
    0x00, 0x04, 0x0e, 0xac, 0x7c, 0xf0, 0x00, 0x01, 0x08, 0x01, 0x33, 0x01, 0x80, 0x00, 0x2b, 0x61, 0x3f,
];

async fn ready(net: &Net) -> RawClient {
    let config = net.server_config();
    let config = ServerConfig {
        common: CommonConfig {
            initial_max_data: 1_000,
            initial_max_streams_bidi: 2,
            initial_max_streams_uni: 2,
            ..config.common
        },
        max_sessions: 5,
        ..config
    };
    RawClient::ready_with(net, config, WITH_FLOW_CONTROL).await
}

async fn too_many_streams_end_the_session(net: Net) {
    for bidirectional in [true, false] {
        let raw = ready(&net).await;
        let (_send, mut recv) = raw.request().await;
        let session = raw.listener.accept().await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(stream(&raw, bidirectional, b"").await);
        }
        assert_eq!(reset_code(&mut recv).await, quinn_code(Code::WT_FLOW_CONTROL_ERROR));
        session.closed().await;
        // Its streams were never accepted.
        session.abandon();
        assert!(raw.quic.close_reason().is_none(), "only the session ends");
        raw.finish().await;
    }
}

async fn too_much_data_ends_the_session(net: Net) {
    let raw = ready(&net).await;
    let (_send, mut recv) = raw.request().await;
    let session = raw.listener.accept().await;
    // One byte more than granted, in two streams that nobody reads.
    let _first = stream(&raw, false, &[0; 600]).await;
    let _second = stream(&raw, true, &[0; 401]).await;
    assert_eq!(reset_code(&mut recv).await, quinn_code(Code::WT_FLOW_CONTROL_ERROR));
    session.closed().await;
    session.abandon();
    raw.finish().await;
}

async fn limits_that_cannot_be_end_the_session(net: Net) {
    let tower = (1 << 60) + 1;
    for capsule in [
        // Not above what the SETTINGS have granted.
        encoded(&Capsule::MaxData(63)),
        encoded(&Capsule::MaxStreams { bidi: true, limit: 0 }),
        encoded(&Capsule::MaxStreams {
            bidi: false,
            limit: tower,
        }),
        encoded(&Capsule::StreamsBlocked {
            bidi: true,
            limit: tower,
        }),
        // WT_MAX_STREAM_DATA and WT_STREAM_DATA_BLOCKED of WebTransport over HTTP/2.
        vec![0x99, 0x0b, 0x4d, 0x3e, 0x02, 0x00, 0x07],
        vec![0x99, 0x0b, 0x4d, 0x42, 0x02, 0x00, 0x07],
    ] {
        let raw = ready(&net).await;
        let (mut send, mut recv) = raw.request().await;
        let session = raw.listener.accept().await;
        send.write_all(&data(&capsule)).await.expect("written");
        assert_eq!(
            reset_code(&mut recv).await,
            quinn_code(Code::WT_FLOW_CONTROL_ERROR),
            "{capsule:02x?}"
        );
        session.closed().await;
        raw.finish().await;
    }
}

async fn without_flow_control_its_capsules_mean_nothing(net: Net) {
    let raw = RawClient::ready_with(&net, net.server_config(), SETTINGS).await;
    let (mut send, _recv) = raw.request().await;
    let session = raw.listener.accept().await;
    let mut capsules = encoded(&Capsule::MaxData(0));
    capsules.extend([0x99, 0x0b, 0x4d, 0x3e, 0x02, 0x00, 0x07]);
    capsules.extend(encoded(&Capsule::Datagram(b"behind them"[..].into())));
    send.write_all(&data(&capsules)).await.expect("written");
    assert_eq!(session.datagram().await.expect("received"), "behind them");
    raw.finish().await;
    session.closed().await;
}

async fn a_surplus_session_is_reset(net: Net) {
    let raw = RawClient::ready(&net).await;
    let (_send, _recv) = raw.request().await;
    let session = raw.listener.accept().await;
    raw.request_is_reset(Code::H3_REQUEST_REJECTED).await;
    assert!(session.is_connected(), "the first session goes on");
    raw.finish().await;
    session.closed().await;
}

/// Each waits a second for the client's FIN. Whoever never sends it gets 16 of them in that time, and no more.
async fn sessions_that_ended_without_a_fin_are_few(net: Net) {
    let raw = ready(&net).await;
    let close = data(&encoded(&Capsule::Close {
        code: 0,
        reason: String::new(),
    }));
    let mut requests = Vec::new();
    for _ in 0..16 {
        let (mut send, recv) = raw.request().await;
        send.write_all(&close).await.expect("written");
        raw.listener.accept().await.closed().await;
        requests.push((send, recv));
    }
    raw.request_is_reset(Code::H3_REQUEST_REJECTED).await;
    raw.finish().await;
}

/// A stream of session 0.
async fn stream(raw: &RawClient, bidirectional: bool, body: &[u8]) -> quinn::SendStream {
    let mut bytes = BytesMut::new();
    let mut send = if bidirectional {
        encode_bi_header(0, &mut bytes);
        raw.quic.open_bi().await.expect("open").0
    } else {
        encode_uni_header(0, &mut bytes);
        raw.quic.open_uni().await.expect("open")
    };
    bytes.extend_from_slice(body);
    send.write_all(&bytes).await.expect("written");
    send
}

fn encoded(capsule: &Capsule) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    capsule.encode(&mut bytes);
    bytes.to_vec()
}

fn data(capsules: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    frame::data_frame(capsules, &mut bytes);
    bytes.to_vec()
}
