//! Requests and responses: their header sections (RFC 9114 section 4, RFC 8441, RFC 9220, §3.2).
//!
//! What passes `decode` is valid: a half-validated message never reaches the application. Every fault of a message is
//! H3_MESSAGE_ERROR on its stream (RFC 9114 4.1.2); only a section that cannot be decoded ends the connection.

use bytes::BytesMut;

use crate::codec::{self, Field};
use crate::dialect::{Dialect, TOKEN, TOKEN_D15};
use crate::error::{Error, StreamError};
use crate::error_code::Code;
use crate::field_section;
use crate::frame;

/// Header fields in order: lower-case names, no pseudo-headers.
pub type HeaderList = Vec<(String, String)>;

/// A valid WebTransport request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Host, and port when it is not 443.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// The value of `:protocol`: one of the two WebTransport tokens.
    pub protocol: String,
    /// All other fields.
    pub headers: HeaderList,
}

/// A valid request of plain HTTP: any method but CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainRequest {
    /// `:method`.
    pub method: String,
    /// `:authority`, or Host in its place; empty for a scheme that has none.
    pub authority: String,
    /// Path and query; `*` for an OPTIONS that is about the whole server.
    pub path: String,
    /// The bytes of content that are announced.
    pub content_length: Option<u64>,
    /// All other fields, Content-Length too.
    pub headers: HeaderList,
}

/// A valid request of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Extended CONNECT with a WebTransport token.
    WebTransport(ConnectRequest),
    /// No CONNECT at all.
    Plain(PlainRequest),
    /// A CONNECT for something else.
    Connect {
        /// `:protocol` of an extended CONNECT.
        protocol: Option<String>,
    },
}

/// A valid response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 100 to 599.
    pub status: u16,
    /// All other fields.
    pub headers: HeaderList,
}

impl ConnectRequest {
    /// A request in the given dialect. Adds the header that draft-02 wants.
    pub fn new(
        dialect: Dialect,
        authority: impl Into<String>,
        path: impl Into<String>,
        mut headers: HeaderList,
    ) -> Self {
        if dialect.has_draft02_header() {
            set_default(&mut headers, DRAFT02_REQUEST, "1");
        }
        ConnectRequest {
            authority: authority.into(),
            path: path.into(),
            protocol: dialect.token().to_owned(),
            headers,
        }
    }

    /// Appends the HEADERS frame.
    pub fn encode_frame(&self, out: &mut BytesMut) {
        let pseudo = [
            (":method", "CONNECT"),
            (":scheme", "https"),
            (":authority", self.authority.as_str()),
            (":path", self.path.as_str()),
            (":protocol", self.protocol.as_str()),
        ];
        encode(&pseudo, &self.headers, true, out);
    }

    /// The size of its field section as RFC 9114 4.2.2 counts it.
    pub fn section_size(&self) -> u64 {
        let names = ":method:scheme:authority:path:protocol".len();
        let values = "CONNECThttps".len() + self.authority.len() + self.path.len() + self.protocol.len();
        5 * FIELD_OVERHEAD + (names + values) as u64 + section_size(&self.headers)
    }

    /// The Origin header.
    pub fn origin(&self) -> Option<&str> {
        find(&self.headers, "origin")
    }

    /// Whether the token agrees with the dialect of the connection: §9.1, `webtransport-h3` with draft-15 and later
    /// only.
    pub fn agrees_with(&self, dialect: Dialect) -> bool {
        self.protocol == dialect.token()
    }

    /// Whether the client asked in the words of draft-02.
    pub fn has_draft02_header(&self) -> bool {
        find(&self.headers, DRAFT02_REQUEST) == Some("1")
    }
}

impl Request {
    /// Decodes and validates a field section of at most `max_size` bytes, counted with 32 per field.
    ///
    /// # Errors
    ///
    /// H3_MESSAGE_ERROR or H3_EXCESSIVE_LOAD on the stream; QPACK_DECOMPRESSION_FAILED for the connection.
    pub fn decode(section: &[u8], max_size: u64) -> Result<Request, Error> {
        let (pseudo, headers) = Pseudo::split(field_section::decode(section, max_size)?)?;
        Ok(pseudo.into_request(headers)?)
    }
}

impl Response {
    /// A response.
    pub fn new(status: u16, headers: HeaderList) -> Self {
        Response { status, headers }
    }

    /// Appends the HEADERS frame.
    pub fn encode_frame(&self, out: &mut BytesMut) {
        let status = self.status.to_string();
        let opens_capsules = matches!(self.status, 200..300);
        encode(&[(":status", status.as_str())], &self.headers, opens_capsules, out);
    }

    /// Appends the HEADERS frame of a response of plain HTTP, which may describe its content whatever its status.
    pub(crate) fn encode_plain_frame(&self, out: &mut BytesMut) {
        let status = self.status.to_string();
        encode(&[(":status", status.as_str())], &self.headers, false, out);
    }

    /// The size of its field section as RFC 9114 4.2.2 counts it.
    pub fn section_size(&self) -> u64 {
        response_size(&self.headers)
    }

    /// Decodes and validates a field section of at most `max_size` bytes, counted with 32 per field.
    ///
    /// # Errors
    ///
    /// As [`Request::decode`].
    pub fn decode(section: &[u8], max_size: u64) -> Result<Response, Error> {
        let (pseudo, headers) = Pseudo::split(field_section::decode(section, max_size)?)?;
        Ok(pseudo.into_response(headers)?)
    }

    /// Checks a response that opens a session, that is, begins a stream of capsules.
    ///
    /// # Errors
    ///
    /// RFC 9297 3.2: the statuses 204, 205 and 206 and fields that describe content make it malformed.
    pub(crate) fn check_capsules(&self) -> Result<(), StreamError> {
        if matches!(self.status, 204..=206) {
            return Err(malformed("a session accepted with a status for other content"));
        }
        check_no_content(&self.headers)
    }
}

/// Checks fields that the application wants to send by the rules for received ones.
///
/// # Errors
///
/// Names the rule that a field breaks. Sending it would make the message malformed for the peer.
pub fn check_fields(headers: &HeaderList) -> Result<(), &'static str> {
    headers.iter().try_for_each(|(name, value)| {
        if name.starts_with(':') {
            return Err("pseudo-header among the headers");
        }
        check_field(name.as_bytes(), value.as_bytes())
    })
}

/// Checks the trailers of a message. What they say is of no use to anybody here.
///
/// # Errors
///
/// As [`Request::decode`]; RFC 9114 4.3: pseudo-headers MUST NOT appear in trailers.
pub(crate) fn check_trailers(section: &[u8], max_size: u64) -> Result<(), Error> {
    for (name, value) in field_section::decode(section, max_size)? {
        if name.first() == Some(&b':') {
            return Err(malformed("pseudo-header in trailers").into());
        }
        check_field(&name, &value).map_err(malformed)?;
    }
    Ok(())
}

/// Adds to the headers of a 2xx what a client of draft-02 waits for.
pub fn acknowledge_draft02(headers: &mut HeaderList) {
    set_default(headers, DRAFT02_RESPONSE, DRAFT02_RESPONSE_VALUE);
}

/// The size of a response with these headers.
pub(crate) fn response_size(headers: &HeaderList) -> u64 {
    FIELD_OVERHEAD + ":status200".len() as u64 + section_size(headers)
}

/// The size of fields as RFC 9114 4.2.2 counts it: name, value and 32 for each.
fn section_size(headers: &HeaderList) -> u64 {
    let size = |(name, value): &(String, String)| FIELD_OVERHEAD + (name.len() + value.len()) as u64;
    headers.iter().map(size).sum()
}

/// Adds a field unless the application set it.
pub(crate) fn set_default(headers: &mut HeaderList, name: &str, value: &str) {
    if find(headers, name).is_none() {
        headers.push((name.to_owned(), value.to_owned()));
    }
}

/// RFC 9114 4.2.1: cookie crumbs MUST be put together before they leave HTTP/3.
fn add(headers: &mut HeaderList, name: String, value: String) {
    if name == "cookie"
        && let Some((_, cookies)) = headers.iter_mut().find(|(known, _)| known == "cookie")
    {
        cookies.push_str("; ");
        cookies.push_str(&value);
    } else {
        headers.push((name, value));
    }
}

fn find<'a>(headers: &'a HeaderList, name: &str) -> Option<&'a str> {
    values(headers, name).next()
}

/// The values of all fields of a name, in order.
pub(crate) fn values<'a>(headers: &'a HeaderList, name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

/// Appends a HEADERS frame.
///
/// RFC 9114 4.2, RFC 9297 3.2: what would make the message malformed MUST NOT be sent, and is left out here whatever the
/// layers above have let through.
fn encode(pseudo: &[(&str, &str)], headers: &HeaderList, opens_capsules: bool, out: &mut BytesMut) {
    // RFC 9114 4.2: names MUST be lower-case; the application may not know.
    let lower: Vec<String> = headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let fields = lower
        .iter()
        .zip(headers)
        .map(|(name, (_, value))| (name.as_str(), value.as_str()))
        .filter(|(name, value)| check_field(name.as_bytes(), value.as_bytes()).is_ok())
        .filter(|(name, _)| !(opens_capsules && describes_content(name)));
    let section = codec::encode_fields(pseudo.iter().copied().chain(fields));
    frame::headers_frame(&section, out);
}

/// The pseudo-headers of one message.
#[derive(Default)]
struct Pseudo {
    method: Option<String>,
    scheme: Option<String>,
    authority: Option<String>,
    path: Option<String>,
    protocol: Option<String>,
    status: Option<String>,
}

impl Pseudo {
    /// Parts pseudo-headers from headers and checks each field on its own.
    fn split(fields: Vec<Field>) -> Result<(Pseudo, HeaderList), StreamError> {
        let mut pseudo = Pseudo::default();
        let mut headers = HeaderList::with_capacity(fields.len());
        for (name, value) in fields {
            if name.first() != Some(&b':') {
                check_field(&name, &value).map_err(malformed)?;
                add(&mut headers, text(name), text(value));
                continue;
            }
            // RFC 9114 4.3: pseudo-headers MUST come before all other fields.
            if !headers.is_empty() {
                return Err(malformed("pseudo-header after a header"));
            }
            check_value(&value).map_err(malformed)?;
            let slot = pseudo.slot(&name).ok_or(malformed("unknown pseudo-header"))?;
            if slot.replace(text(value)).is_some() {
                return Err(malformed("repeated pseudo-header"));
            }
        }
        // A session keeps them.
        headers.shrink_to_fit();
        Ok((pseudo, headers))
    }

    fn slot(&mut self, name: &[u8]) -> Option<&mut Option<String>> {
        match name {
            b":method" => Some(&mut self.method),
            b":scheme" => Some(&mut self.scheme),
            b":authority" => Some(&mut self.authority),
            b":path" => Some(&mut self.path),
            b":protocol" => Some(&mut self.protocol),
            b":status" => Some(&mut self.status),
            _ => None,
        }
    }

    fn into_request(self, headers: HeaderList) -> Result<Request, StreamError> {
        // RFC 9114 4.3: pseudo-headers of responses MUST NOT appear in requests.
        if self.status.is_some() {
            return Err(malformed(":status in a request"));
        }
        self.check_authority(&headers)?;
        let method = self.method.ok_or(malformed("request without :method"))?;
        if !is_token(method.as_bytes()) {
            return Err(malformed(":method is no token"));
        }
        // 4.4: a plain CONNECT has an :authority and MUST NOT have :scheme and :path.
        if method == "CONNECT" && self.protocol.is_none() {
            if self.scheme.is_some() || self.path.is_some() || self.authority.is_none() {
                return Err(malformed("CONNECT with the wrong pseudo-headers"));
            }
            return Ok(Request::Connect { protocol: None });
        }
        // RFC 8441 section 4: :protocol belongs to CONNECT.
        if method != "CONNECT" && self.protocol.is_some() {
            return Err(malformed(":protocol without CONNECT"));
        }
        // RFC 9114 4.3.1: every other request MUST have :scheme and :path; extended CONNECT as well (RFC 8441).
        let scheme = self.scheme.ok_or(malformed("request without :scheme"))?;
        let path = self.path.ok_or(malformed("request without :path"))?;
        if !is_path(&path, &method) {
            return Err(malformed(":path is no path"));
        }
        let Some(protocol) = self.protocol else {
            return Ok(Request::Plain(PlainRequest {
                method,
                authority: self
                    .authority
                    .or_else(|| find(&headers, "host").map(str::to_owned))
                    .unwrap_or_default(),
                path,
                content_length: content_length(&headers)?,
                headers,
            }));
        };
        // RFC 8441: extended CONNECT MUST have an :authority.
        let authority = self.authority.ok_or(malformed("extended CONNECT without :authority"))?;
        if protocol != TOKEN && protocol != TOKEN_D15 {
            return Ok(Request::Connect {
                protocol: Some(protocol),
            });
        }
        // §3.2: the :scheme MUST be https.
        if scheme != "https" {
            return Err(malformed("WebTransport with a :scheme other than https"));
        }
        check_no_content(&headers)?;
        Ok(Request::WebTransport(ConnectRequest {
            authority,
            path,
            protocol,
            headers,
        }))
    }

    /// RFC 9114 4.3.1: the authority is not empty, carries no userinfo, and equals Host where both are present.
    fn check_authority(&self, headers: &HeaderList) -> Result<(), StreamError> {
        let host = find(headers, "host");
        if headers.iter().filter(|(name, _)| name == "host").count() > 1 {
            return Err(malformed("repeated Host"));
        }
        match (self.authority.as_deref(), host) {
            (None, None) if matches!(self.scheme.as_deref(), Some("https" | "http")) => {
                Err(malformed("request without :authority and Host"))
            }
            (Some(authority), Some(host)) if authority != host => Err(malformed("Host differs from :authority")),
            (Some(name), _) | (None, Some(name)) => {
                let forbidden = |c: char| c.is_ascii_whitespace() || matches!(c, '@' | '/' | '?' | '#');
                if name.is_empty() || name.contains(forbidden) {
                    return Err(malformed("bad :authority"));
                }
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    fn into_response(self, headers: HeaderList) -> Result<Response, StreamError> {
        let Pseudo {
            method,
            scheme,
            authority,
            path,
            protocol,
            status,
        } = self;
        // RFC 9114 4.3: pseudo-headers of requests MUST NOT appear in responses.
        if [method, scheme, authority, path, protocol].iter().any(Option::is_some) {
            return Err(malformed("pseudo-header of a request in a response"));
        }
        // 4.3.2: :status MUST be there; it is three digits. 4.5: 101 does not exist in HTTP/3.
        let status = status
            .filter(|text| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .filter(|status| (100..600).contains(status) && *status != 101)
            .ok_or(malformed("response without a valid :status"))?;
        Ok(Response { status, headers })
    }
}

/// RFC 9297 3.2: capsules MUST NOT be used with fields that describe content.
fn check_no_content(headers: &HeaderList) -> Result<(), StreamError> {
    if headers.iter().any(|(name, _)| describes_content(name)) {
        return Err(malformed("Content-Length or Content-Type on a stream of capsules"));
    }
    Ok(())
}

/// RFC 9110 8.6: one number of decimal digits. A list of equal ones may be taken or refused; here it is malformed like
/// all else. A number that no integer holds is larger than any limit, and so is the largest integer.
fn content_length(headers: &HeaderList) -> Result<Option<u64>, StreamError> {
    let mut values = values(headers, "content-length");
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) || values.next().is_some() {
        return Err(malformed("Content-Length is not one number"));
    }
    Ok(Some(value.parse().unwrap_or(u64::MAX)))
}

/// Transfer-Encoding, the third of them, does not exist in HTTP/3.
fn describes_content(name: &str) -> bool {
    matches!(name, "content-length" | "content-type")
}

/// Checks a field that is no pseudo-header.
fn check_field(name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    // RFC 9114 4.2: upper-case characters in a name make the message malformed. 10.3: so does any that is no token.
    if !is_token(name) || name.iter().any(u8::is_ascii_uppercase) {
        return Err("header name is not a lower-case token");
    }
    // 4.2: connection-specific fields make the message malformed, and TE with anything but "trailers".
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            return Err("connection-specific header");
        }
        b"te" if value != b"trailers" => return Err("TE other than trailers"),
        _ => {}
    }
    check_value(value)
}

/// RFC 9114 10.3: characters that HTTP does not permit in a value make the message malformed.
fn check_value(value: &[u8]) -> Result<(), &'static str> {
    if value
        .iter()
        .any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f)
    {
        return Err("control character in a header value");
    }
    Ok(())
}

/// The token of RFC 9110 section 5.6.2.
fn is_token(name: &[u8]) -> bool {
    !name.is_empty()
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// RFC 9114 4.3.1: a path starts with a slash; OPTIONS may ask for "*".
fn is_path(path: &str, method: &str) -> bool {
    let asterisk = method == "OPTIONS" && path == "*";
    asterisk || (path.starts_with('/') && !path.contains([' ', '\t', '#']))
}

/// Bytes of a field as text: UTF-8 where they are, else one character per byte, which loses nothing.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| error.as_bytes().iter().map(|byte| char::from(*byte)).collect())
}

fn malformed(reason: &'static str) -> StreamError {
    StreamError {
        code: Code::H3_MESSAGE_ERROR,
        reason,
    }
}

/// RFC 9114 4.2.2: what each field counts besides its name and value.
const FIELD_OVERHEAD: u64 = 32;

/// The header of draft-02 requests.
pub(crate) const DRAFT02_REQUEST: &str = "sec-webtransport-http3-draft02";
/// The header of the response to them.
pub(crate) const DRAFT02_RESPONSE: &str = "sec-webtransport-http3-draft";
/// Its value.
pub(crate) const DRAFT02_RESPONSE_VALUE: &str = "draft02";
