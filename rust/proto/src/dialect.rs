//! Which draft is spoken on a connection: what this side announces, and what follows from the peer's SETTINGS.

use crate::settings::{Settings, id};
use crate::varint;

/// The side of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The side that sends CONNECT requests.
    Client,
    /// The side that answers them.
    Server,
}

/// A dialect of WebTransport over HTTP/3, older ones first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Dialect {
    /// draft-02: Chrome and Firefox.
    D02,
    /// draft-04 and -05.
    D04,
    /// draft-07 to -12: Safari without flow control.
    D07,
    /// draft-13 and -14.
    D14,
    /// draft-15 and -16.
    D15,
}

impl Dialect {
    /// The name for logs.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::D02 => "draft-02",
            Dialect::D04 => "draft-04",
            Dialect::D07 => "draft-07",
            Dialect::D14 => "draft-14",
            Dialect::D15 => "draft-15",
        }
    }

    /// The value of `:protocol`. §9.1 renamed the token with draft-15.
    pub fn token(self) -> &'static str {
        match self {
            Dialect::D15 => TOKEN_D15,
            _ => TOKEN,
        }
    }

    /// Whether application error codes have eight bits only.
    pub fn has_8bit_codes(self) -> bool {
        matches!(self, Dialect::D02 | Dialect::D04)
    }

    /// Whether the CONNECT request and its response carry the header of draft-02.
    pub fn has_draft02_header(self) -> bool {
        matches!(self, Dialect::D02 | Dialect::D04)
    }
}

/// What this side is willing to do; the source of [`local_settings`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalOptions {
    /// Sessions per connection that a server announces. Zero counts as one.
    pub max_sessions: u64,
    /// Whether draft-15 and later are announced.
    pub draft15: bool,
    /// Largest field section accepted, counted with 32 bytes per field. Zero: nothing is announced.
    pub max_field_section_size: u64,
    /// Initial WebTransport credit for stream bodies. Zero: not announced.
    pub initial_max_data: u64,
    /// Initial WebTransport credit for bidirectional streams. Zero: not announced.
    pub initial_max_streams_bidi: u64,
    /// Initial WebTransport credit for unidirectional streams. Zero: not announced.
    pub initial_max_streams_uni: u64,
}

/// Why no WebTransport session can be had from a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unsupported {
    /// No WebTransport setting in common.
    #[error("the peer's SETTINGS announce no WebTransport draft that this side speaks")]
    WebTransport,
    /// The server does not take extended CONNECT.
    #[error("the peer's SETTINGS lack ENABLE_CONNECT_PROTOCOL = 1")]
    ExtendedConnect,
    /// No HTTP datagrams.
    #[error("the peer's SETTINGS lack H3_DATAGRAM = 1")]
    Datagrams,
    /// No datagrams of QUIC, as the layer below finds out.
    #[error("the peer's transport parameters lack max_datagram_frame_size")]
    QuicDatagrams,
}

/// The SETTINGS of this side, with which every known peer can be reached as long as RESET_STREAM_AT is missing.
///
/// 0x14e9cd29 is left out on purpose: Safari takes it for draft-14 and then demands RESET_STREAM_AT and credit.
/// Draft-10 and later make RESET_STREAM_AT a MUST; announcing WT_ENABLED without it breaks that rule knowingly.
pub fn local_settings(role: Role, options: &LocalOptions) -> Settings {
    let sessions = options.max_sessions.clamp(1, varint::MAX);
    let mut settings = Settings::default();
    // A server needs it (RFC 9220). From a client it means nothing and does no harm.
    settings.set(id::ENABLE_CONNECT_PROTOCOL, 1);
    settings.set(id::H3_DATAGRAM, 1);
    settings.set(id::H3_DATAGRAM_DRAFT04, 1);
    settings.set(id::ENABLE_WEBTRANSPORT_DRAFT02, 1);
    match role {
        Role::Server => {
            settings.set(id::MAX_SESSIONS_DRAFT04, sessions);
            settings.set(id::MAX_SESSIONS_DRAFT07, sessions);
        }
        // Draft-07 wants it from clients too, as a mere switch.
        Role::Client => settings.set(id::MAX_SESSIONS_DRAFT07, 1),
    }
    if options.draft15 {
        settings.set(id::WT_ENABLED, 1);
    }
    for (id, value) in [
        (id::WT_INITIAL_MAX_DATA, options.initial_max_data),
        (id::WT_INITIAL_MAX_STREAMS_UNI, options.initial_max_streams_uni),
        (id::WT_INITIAL_MAX_STREAMS_BIDI, options.initial_max_streams_bidi),
        // RFC 9114 10.5: announce what is enforced.
        (id::MAX_FIELD_SECTION_SIZE, options.max_field_section_size),
    ] {
        if value > 0 {
            settings.set(id, value.min(varint::MAX));
        }
    }
    settings
}

/// The highest dialect that both sides announced (§7.1), or what the peer lacks.
///
/// `role` is this side's. A missing RESET_STREAM_AT is tolerated, because this side may lack it too.
///
/// # Errors
///
/// [`Unsupported`] names the missing setting. A client then must not send a CONNECT; a server treats each session as
/// malformed (§3.1).
pub fn negotiate(role: Role, local: &Settings, peer: &Settings) -> Result<Dialect, Unsupported> {
    let dialect = highest_common(role, local, peer).ok_or(Unsupported::WebTransport)?;
    // Draft-02 came before ENABLE_CONNECT_PROTOCOL was required: its own setting implies extended CONNECT.
    let extended_connect = is_on(peer, id::ENABLE_CONNECT_PROTOCOL) || is_on(peer, id::ENABLE_WEBTRANSPORT_DRAFT02);
    if role == Role::Client && !extended_connect {
        return Err(Unsupported::ExtendedConnect);
    }
    // The payload format of draft-04 datagrams is the final one, so the old setting counts as well.
    if !is_on(peer, id::H3_DATAGRAM) && !is_on(peer, id::H3_DATAGRAM_DRAFT04) {
        return Err(Unsupported::Datagrams);
    }
    Ok(dialect)
}

fn highest_common(role: Role, local: &Settings, peer: &Settings) -> Option<Dialect> {
    let both_on = |id| is_on(local, id) && is_on(peer, id);
    let both_positive = |id| is_positive(local, id) && is_positive(peer, id);
    if both_on(id::WT_ENABLED) {
        Some(Dialect::D15)
    } else if both_positive(id::MAX_SESSIONS_DRAFT14) {
        Some(Dialect::D14)
    } else if both_positive(id::MAX_SESSIONS_DRAFT07) {
        Some(Dialect::D07)
    } else if both_on(id::ENABLE_WEBTRANSPORT_DRAFT02) {
        // Draft-04 differs from draft-02 in SETTINGS only by the server's count: a client's cannot be told apart.
        let server_counts = role == Role::Client && is_positive(peer, id::MAX_SESSIONS_DRAFT04);
        Some(if server_counts { Dialect::D04 } else { Dialect::D02 })
    } else {
        None
    }
}

fn is_on(settings: &Settings, id: u64) -> bool {
    settings.get(id) == Some(1)
}

fn is_positive(settings: &Settings, id: u64) -> bool {
    settings.get(id).is_some_and(|value| value > 0)
}

/// The token of draft-15 and later.
pub(crate) const TOKEN_D15: &str = "webtransport-h3";
/// The token of all drafts before.
pub(crate) const TOKEN: &str = "webtransport";
