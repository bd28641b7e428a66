//! What the TLS exporter is asked for, so that each session of a connection has keying material of its own (§4.8).

use bytes::{BufMut, Bytes, BytesMut};

/// The label of every WebTransport exporter; the application's label is in the context.
pub const LABEL: &[u8] = b"EXPORTER-WebTransport";

/// The longest output, in bytes. HKDF gives 255 times the length of its hash (RFC 5869 section 2.3), and no hash of TLS 1.3 is
/// shorter than 32 bytes.
pub const MAX_LENGTH: usize = 255 * 32;

/// An exporter that cannot be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExporter {
    /// The label does not fit.
    #[error("an exporter label has 1 to 255 bytes, not {0}")]
    Label(usize),
    /// The context does not fit.
    #[error("an exporter context has at most 255 bytes, not {0}")]
    Context(usize),
    /// More than TLS can derive, or nothing.
    #[error("an exporter gives 1 to {MAX_LENGTH} bytes, not {0}")]
    Length(usize),
}

/// The WebTransport Exporter Context of `session`: the context for TLS, whose label is [`LABEL`].
///
/// # Errors
///
/// Both lengths are one byte, a label is not empty, and TLS can derive `length` bytes.
pub fn encode_context(session: u64, label: &[u8], context: &[u8], length: usize) -> Result<Bytes, InvalidExporter> {
    let label_len = u8::try_from(label.len()).map_err(|_| InvalidExporter::Label(label.len()))?;
    let context_len = u8::try_from(context.len()).map_err(|_| InvalidExporter::Context(context.len()))?;
    if label.is_empty() {
        return Err(InvalidExporter::Label(0));
    }
    if !(1..=MAX_LENGTH).contains(&length) {
        return Err(InvalidExporter::Length(length));
    }
    let mut out = BytesMut::with_capacity(10 + label.len() + context.len());
    // A whole integer in network order, not the varint that names the session elsewhere.
    out.put_u64(session);
    out.put_u8(label_len);
    out.extend_from_slice(label);
    out.put_u8(context_len);
    out.extend_from_slice(context);
    Ok(out.freeze())
}
