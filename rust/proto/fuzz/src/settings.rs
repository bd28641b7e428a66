//! SETTINGS and the streams they come on: the peer's control stream and its QPACK streams.

use bytes::Bytes;
use wt_proto::control::{ControlEvent, PeerStreams};
use wt_proto::dialect::{Dialect, LocalOptions, Role, local_settings, negotiate};
use wt_proto::error::ConnectionError;
use wt_proto::flow_control::is_enabled;
use wt_proto::frame::{Frame, FrameContext, FrameParser};
use wt_proto::settings::{Settings, id};
use wt_proto::stream_header::UniStream;

use crate::{all_equal, cuts, encoded};

/// `data` is the payload of a SETTINGS frame, and once more a control stream, a QPACK encoder and a decoder stream.
pub fn check(data: &[u8]) {
    if let Ok(settings) = Settings::decode(data) {
        check_settings(&settings, data.len());
    }
    for role in [Role::Client, Role::Server] {
        let events = all_equal(cuts(data).map(|pieces| control(role, pieces)));
        if let Ok(events) = events {
            assert!(events.len() <= data.len() / 2, "each took a frame");
        }
        for handle in [PeerStreams::handle_encoder, PeerStreams::handle_decoder] {
            let _ = all_equal(cuts(data).map(|pieces| {
                let mut streams = PeerStreams::new(role);
                pieces.iter().try_for_each(|piece| handle(&mut streams, piece))
            }));
        }
    }
}

fn check_settings(settings: &Settings, payload: usize) {
    let entries: Vec<_> = settings.iter().collect();
    assert!(entries.len() <= payload / 2);
    for (id, value) in &entries {
        assert_eq!(settings.get(*id), Some(*value), "each once");
    }
    let frame = encoded(|out| settings.encode_frame(out));
    let mut parser = FrameParser::new(FrameContext::Control);
    parser.push(frame);
    assert_eq!(parser.next(), Ok(Some(Frame::Settings(settings.clone()))));
    for role in [Role::Client, Role::Server] {
        let local = local_settings(role, &OPTIONS);
        let dialect = negotiate(role, &local, settings);
        if dialect == Ok(Dialect::D15) {
            assert_eq!(settings.get(id::WT_ENABLED), Some(1));
        }
        for dialect in [Dialect::D02, Dialect::D04, Dialect::D07, Dialect::D14, Dialect::D15] {
            let enabled = is_enabled(dialect, &local, settings);
            assert_eq!(is_enabled(dialect, settings, &local), enabled, "both sides agree");
        }
    }
}

/// What a control stream says. Events before an error are of no use, and are not given out.
fn control(role: Role, pieces: Vec<Bytes>) -> Result<Vec<ControlEvent>, ConnectionError> {
    let mut streams = PeerStreams::new(role);
    streams.open(&UniStream::Control)?;
    let mut events = Vec::new();
    for piece in pieces {
        events.extend(streams.handle_control(piece)?);
    }
    Ok(events)
}

const OPTIONS: LocalOptions = LocalOptions {
    max_sessions: 1,
    draft15: true,
    max_field_section_size: 65536,
    initial_max_data: 0,
    initial_max_streams_bidi: 100,
    initial_max_streams_uni: 0,
};
