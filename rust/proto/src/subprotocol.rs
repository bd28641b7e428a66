//! Negotiation of the application's protocol (§3.3): what the client offers, and what the server picks.
//!
//! All of it stands in two header fields, so these functions work on header lists. Nothing here is an error for the
//! connection: a field that is malformed is ignored, and then no protocol is negotiated.

use crate::error::StreamError;
use crate::error_code::Code;
use crate::headers::{HeaderList, values};
use crate::structured_field as field;

/// The request's field: a List of Strings, the most preferred first.
const AVAILABLE: &str = "wt-available-protocols";
/// The response's field: a String.
const CHOSEN: &str = "wt-protocol";

/// Client: puts the offer into the request's headers, in place of any that is there. An empty one is left out.
///
/// # Errors
///
/// Names the rule that a protocol breaks.
pub fn offer(headers: &mut HeaderList, protocols: &[String]) -> Result<(), &'static str> {
    if protocols.is_empty() {
        return Ok(());
    }
    let list = field::format_strings(protocols).ok_or("a subprotocol has characters other than printable ASCII")?;
    replace(headers, AVAILABLE, list);
    Ok(())
}

/// What a request offers; nothing when the field is missing or malformed.
pub fn offered(request: &HeaderList) -> Vec<String> {
    field::parse_strings(values(request, AVAILABLE)).unwrap_or_default()
}

/// Server: the first of its own protocols that the request offers. The order of the client does not matter.
pub fn choose(request: &HeaderList, supported: &[String]) -> Option<String> {
    let offered = offered(request);
    supported.iter().find(|protocol| offered.contains(protocol)).cloned()
}

/// Server: puts the choice into the response's headers. Whatever else the application put there as such goes: the value
/// MUST be one of the client's list, and only [`choose`] sees to that.
pub fn answer(headers: &mut HeaderList, chosen: Option<&str>) {
    headers.retain(|(name, _)| !name.eq_ignore_ascii_case(CHOSEN));
    if let Some(value) = chosen.and_then(field::format_string) {
        headers.push((CHOSEN.to_owned(), value));
    }
}

/// What a response chose; `None` when the field is missing or malformed.
pub fn answered(response: &HeaderList) -> Option<String> {
    field::parse_string(values(response, CHOSEN))
}

/// Client: checks the choice of a 2xx response against the request's offer.
///
/// # Errors
///
/// §3.3: a value that was not offered MUST close the session with WT_ALPN_ERROR.
pub(crate) fn check(offered: &[String], response: &HeaderList) -> Result<(), StreamError> {
    match answered(response) {
        Some(chosen) if !offered.contains(&chosen) => Err(StreamError {
            code: Code::WT_ALPN_ERROR,
            reason: "the server chose a subprotocol that was not offered",
        }),
        _ => Ok(()),
    }
}

fn replace(headers: &mut HeaderList, name: &str, value: String) {
    headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    headers.push((name.to_owned(), value));
}
