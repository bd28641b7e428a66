//! Error codes on the wire, and the mapping of application codes into them (§4.4).

use std::fmt;

/// An HTTP/3 error code, as it stands in RESET_STREAM, STOP_SENDING and CONNECTION_CLOSE.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u64);

/// Declares the constants and their names from one table.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal;)+) => {
        impl Code {
            $($(#[doc = $doc])+ pub const $name: Code = Code($value);)+

            /// The registered name, when the code has one.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// Datagram or capsule that cannot be parsed (RFC 9297).
    H3_DATAGRAM_ERROR = 0x33;
    /// Closing without an error.
    H3_NO_ERROR = 0x100;
    /// A violation that no other code describes.
    H3_GENERAL_PROTOCOL_ERROR = 0x101;
    /// Internal error.
    H3_INTERNAL_ERROR = 0x102;
    /// A stream that will not be accepted.
    H3_STREAM_CREATION_ERROR = 0x103;
    /// A stream the connection needs was closed.
    H3_CLOSED_CRITICAL_STREAM = 0x104;
    /// A frame where it is not permitted.
    H3_FRAME_UNEXPECTED = 0x105;
    /// A frame with a bad layout or size.
    H3_FRAME_ERROR = 0x106;
    /// Behaviour that might cause excessive load.
    H3_EXCESSIVE_LOAD = 0x107;
    /// A stream or push id used wrongly.
    H3_ID_ERROR = 0x108;
    /// A bad setting.
    H3_SETTINGS_ERROR = 0x109;
    /// The control stream does not begin with SETTINGS.
    H3_MISSING_SETTINGS = 0x10a;
    /// Refused without processing; safe to retry.
    H3_REQUEST_REJECTED = 0x10b;
    /// The request or its response is cancelled.
    H3_REQUEST_CANCELLED = 0x10c;
    /// The stream ended before its message.
    H3_REQUEST_INCOMPLETE = 0x10d;
    /// A malformed message.
    H3_MESSAGE_ERROR = 0x10e;
    /// The connection made for a CONNECT request failed.
    H3_CONNECT_ERROR = 0x10f;
    /// Retry over HTTP/1.1.
    H3_VERSION_FALLBACK = 0x110;
    /// A field section that cannot be decoded.
    QPACK_DECOMPRESSION_FAILED = 0x200;
    /// A bad instruction on the encoder stream.
    QPACK_ENCODER_STREAM_ERROR = 0x201;
    /// A bad instruction on the decoder stream.
    QPACK_DECODER_STREAM_ERROR = 0x202;
    /// A stream for an unknown session that is not kept (§4.6).
    WT_BUFFERED_STREAM_REJECTED = 0x3994_bd84;
    /// The session of the stream has ended (§6).
    WT_SESSION_GONE = 0x170d_7b68;
    /// A WebTransport limit was broken (§5).
    WT_FLOW_CONTROL_ERROR = 0x045d_4487;
    /// No agreement on an application protocol (§3.3).
    WT_ALPN_ERROR = 0x0817_b3dd;
    /// The peer lacks a required setting or parameter (§3.1).
    WT_REQUIREMENTS_NOT_MET = 0x212c_0d48;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), from_http(*self)) {
            (Some(name), _) => f.write_str(name),
            (None, Some(app)) => write!(f, "application code {app}"),
            (None, None) => write!(f, "{:#x}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Code({:#x})", self.0),
        }
    }
}

/// The HTTP/3 code that carries an application code in RESET_STREAM and STOP_SENDING.
///
/// §4.4: every 31st code of the range is reserved for greasing (0x1f * N + 0x21) and is stepped over.
pub fn to_http(app: u32) -> Code {
    let app = u64::from(app);
    Code(FIRST + app + app / 0x1e)
}

/// The application code in an HTTP/3 code; `None` for a code out of the range or reserved for greasing.
pub fn from_http(code: Code) -> Option<u32> {
    let reserved = code.0 >= 0x21 && (code.0 - 0x21).is_multiple_of(0x1f);
    if !(FIRST..=LAST).contains(&code.0) || reserved {
        return None;
    }
    let shifted = code.0 - FIRST;
    u32::try_from(shifted - shifted / 0x1f).ok()
}

/// First and last code of the WT_APPLICATION_ERROR range (§9.5).
const FIRST: u64 = 0x52e4_a40f_a8db;
const LAST: u64 = 0x52e5_ac98_3162;
