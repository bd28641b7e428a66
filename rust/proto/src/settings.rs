//! The SETTINGS frame (RFC 9114 section 7.2.4) and every setting this implementation knows.

use std::collections::BTreeSet;

use bytes::BytesMut;

use crate::error::ConnectionError;
use crate::error_code::Code;
use crate::frame;
use crate::varint;

/// Setting identifiers.
pub mod id {
    /// QPACK_MAX_TABLE_CAPACITY (RFC 9204).
    pub const QPACK_MAX_TABLE_CAPACITY: u64 = 0x01;
    /// MAX_FIELD_SECTION_SIZE (RFC 9114).
    pub const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
    /// QPACK_BLOCKED_STREAMS (RFC 9204).
    pub const QPACK_BLOCKED_STREAMS: u64 = 0x07;
    /// ENABLE_CONNECT_PROTOCOL (RFC 9220).
    pub const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
    /// H3_DATAGRAM (RFC 9297).
    pub const H3_DATAGRAM: u64 = 0x33;
    /// H3_DATAGRAM of the draft that Chrome and Firefox still send beside the final one.
    pub const H3_DATAGRAM_DRAFT04: u64 = 0xffd277;
    /// WT_INITIAL_MAX_DATA.
    pub const WT_INITIAL_MAX_DATA: u64 = 0x2b61;
    /// WT_INITIAL_MAX_STREAMS_UNI.
    pub const WT_INITIAL_MAX_STREAMS_UNI: u64 = 0x2b64;
    /// WT_INITIAL_MAX_STREAMS_BIDI.
    pub const WT_INITIAL_MAX_STREAMS_BIDI: u64 = 0x2b65;
    /// ENABLE_WEBTRANSPORT of draft-02.
    pub const ENABLE_WEBTRANSPORT_DRAFT02: u64 = 0x2b60_3742;
    /// WEBTRANSPORT_MAX_SESSIONS beside the draft-02 setting (draft-04).
    pub const MAX_SESSIONS_DRAFT04: u64 = 0x2b60_3743;
    /// WEBTRANSPORT_MAX_SESSIONS of draft-07.
    pub const MAX_SESSIONS_DRAFT07: u64 = 0xc671_706a;
    /// WT_MAX_SESSIONS of draft-13 and draft-14.
    pub const MAX_SESSIONS_DRAFT14: u64 = 0x14e9_cd29;
    /// The setting of draft-06. No live peer sends it.
    pub const WEBTRANSPORT_DRAFT06: u64 = 0x3c48_d522;
    /// WT_ENABLED (draft-15 and later).
    pub const WT_ENABLED: u64 = 0x2c7c_f000;
}

/// Settings of one side, in the order of the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    // A list and not a map: the order on the wire is part of what a capture shows, and a handful of look-ups per
    // connection do not pay for a tree.
    entries: Vec<(u64, u64)>,
}

impl Settings {
    /// The value of a setting, `None` when it is absent.
    pub fn get(&self, id: u64) -> Option<u64> {
        self.entries
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, value)| *value)
    }

    /// Sets a value; a new setting goes to the end.
    pub fn set(&mut self, id: u64, value: u64) {
        match self.entries.iter_mut().find(|(known, _)| *known == id) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((id, value)),
        }
    }

    /// All settings, unknown ones included, in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.entries.iter().copied()
    }

    /// Decodes the payload of a SETTINGS frame and checks each value that has rules of its own.
    ///
    /// # Errors
    ///
    /// H3_SETTINGS_ERROR for a reserved, repeated or invalid setting, H3_FRAME_ERROR for a payload that ends inside one.
    pub fn decode(payload: &[u8]) -> Result<Settings, ConnectionError> {
        let mut settings = Settings::default();
        let mut seen = BTreeSet::new();
        let mut rest = payload;
        while !rest.is_empty() {
            let id = take_varint(&mut rest)?;
            let value = take_varint(&mut rest)?;
            check(id, value)?;
            // RFC 9114 7.2.4: the same identifier MUST NOT occur more than once; a receiver MAY object, and does.
            if !seen.insert(id) {
                return Err(bad("repeated setting"));
            }
            settings.entries.push((id, value));
        }
        Ok(settings)
    }

    /// Appends the whole SETTINGS frame.
    pub fn encode_frame(&self, out: &mut BytesMut) {
        let length: usize = self
            .iter()
            .map(|(id, value)| varint::len(id) + varint::len(value))
            .sum();
        varint::encode(frame::kind::SETTINGS, out);
        varint::encode(length as u64, out);
        for (id, value) in self.iter() {
            varint::encode(id, out);
            varint::encode(value, out);
        }
    }
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, ConnectionError> {
    let (value, used) = varint::decode(rest).ok_or(ConnectionError {
        code: Code::H3_FRAME_ERROR,
        reason: "SETTINGS frame ends inside a setting",
    })?;
    *rest = &rest[used..];
    Ok(value)
}

fn check(id: u64, value: u64) -> Result<(), ConnectionError> {
    match id {
        // RFC 9114 7.2.4.1: settings of HTTP/2 without a counterpart MUST be a connection error; 0x00 is reserved.
        0x00 | 0x02..=0x05 => Err(bad("setting of HTTP/2")),
        // RFC 8441 section 3, RFC 9220: values other than 0 and 1 are invalid.
        id::ENABLE_CONNECT_PROTOCOL if value > 1 => Err(bad("ENABLE_CONNECT_PROTOCOL is neither 0 nor 1")),
        // RFC 9297 2.1.1: a value that is neither 0 nor 1 MUST be H3_SETTINGS_ERROR.
        id::H3_DATAGRAM if value > 1 => Err(bad("H3_DATAGRAM is neither 0 nor 1")),
        _ => Ok(()),
    }
}

fn bad(reason: &'static str) -> ConnectionError {
    ConnectionError {
        code: Code::H3_SETTINGS_ERROR,
        reason,
    }
}
