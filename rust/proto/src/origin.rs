//! Which web pages may open sessions (§3.2): the Origin header (RFC 6454) against what the server allows.

use std::str::FromStr;

use crate::headers::{ConnectRequest, values};

/// What a server allows.
///
/// A request without Origin passes in any case: the header is there to protect a user's browser from foreign pages, §3.2
/// demands it of browsers alone, and any other program could write into it what it likes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OriginPolicy {
    /// Every origin.
    #[default]
    Any,
    /// The origin that is asked: https, and the host and port of `:authority`.
    SameOrigin,
    /// Those that match one of the patterns.
    List(Vec<OriginPattern>),
}

impl OriginPolicy {
    /// Whether the request may go on. §3.2: an Origin header MUST be verified; a request with several is allowed when each
    /// of them is.
    pub fn allows(&self, request: &ConnectRequest) -> bool {
        values(&request.headers, "origin").all(|origin| match self {
            OriginPolicy::Any => true,
            OriginPolicy::SameOrigin => is_same(origin, &request.authority),
            OriginPolicy::List(patterns) => patterns.iter().any(|pattern| pattern.matches(origin)),
        })
    }
}

/// One entry of the list: `https://example.org`, `https://*.example.org`, `https://example.org:*`, `*` or `null`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// `*`: every origin.
    Any,
    /// `null`: what browsers send for sandboxed frames and files. It tells nothing about who they are.
    Null,
    /// Scheme, host and port.
    Tuple {
        /// In lower case.
        scheme: String,
        /// In lower case; with `subdomains` the part behind the asterisk, dot included.
        host: String,
        /// `*.host`: any number of labels before it, but at least one.
        subdomains: bool,
        /// `None`: `:*`, every port.
        port: Option<Port>,
    },
}

/// The port of an origin; `None` where the scheme has no default and none is given.
type Port = Option<u16>;

/// Why a pattern is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPattern(&'static str);

impl FromStr for OriginPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        match text {
            "*" => return Ok(OriginPattern::Any),
            "null" => return Ok(OriginPattern::Null),
            _ => {}
        }
        let (scheme, rest) = text.split_once("://").ok_or(InvalidPattern(
            "an origin begins with a scheme, such as https://example.org",
        ))?;
        if rest.contains(['/', '?', '#', '@']) {
            return Err(InvalidPattern(
                "an origin is scheme, host and port, without user, path and a slash at the end",
            ));
        }
        let (rest, any_port) = match rest.strip_suffix(":*") {
            Some(host) => (host, true),
            None => (rest, false),
        };
        let (rest, subdomains) = match rest.strip_prefix("*.") {
            Some(host) => (host, true),
            None => (rest, false),
        };
        if scheme.contains('*') || rest.contains('*') {
            return Err(InvalidPattern(
                "an asterisk stands for subdomains (https://*.example.org), for the port (https://example.org:*), or \
                 alone for every origin",
            ));
        }
        let (scheme, host, port) = parse(scheme, rest).ok_or(InvalidPattern("scheme, host or port is not valid"))?;
        Ok(OriginPattern::Tuple {
            scheme,
            host: if subdomains { format!(".{host}") } else { host },
            subdomains,
            port: (!any_port).then_some(port),
        })
    }
}

impl OriginPattern {
    /// Whether the value of an Origin header fits.
    pub fn matches(&self, origin: &str) -> bool {
        let OriginPattern::Tuple {
            scheme,
            host,
            subdomains,
            port,
        } = self
        else {
            return *self == OriginPattern::Any || origin == "null";
        };
        let Some((its_scheme, its_host, its_port)) = split(origin) else {
            return false;
        };
        let fits = if *subdomains {
            its_host.len() > host.len() && its_host.ends_with(host.as_str())
        } else {
            its_host == *host
        };
        fits && its_scheme == *scheme && port.is_none_or(|port| port == its_port)
    }
}

/// Whether an Origin is that of the server which is asked.
fn is_same(origin: &str, authority: &str) -> bool {
    let asked = parse("https", authority);
    asked.is_some() && split(origin) == asked
}

fn split(origin: &str) -> Option<(String, String, Port)> {
    let (scheme, rest) = origin.split_once("://")?;
    parse(scheme, rest)
}

/// Scheme, host and port in the one form that can be compared: lower case, the default port filled in.
fn parse(scheme: &str, rest: &str) -> Option<(String, String, Port)> {
    let scheme = scheme.to_ascii_lowercase();
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(is_scheme) {
        return None;
    }
    // The colons inside the brackets of an IPv6 address are its own.
    let end = rest.find(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match rest.get(end..)?.split_once(':') {
        Some((tail, port)) => (&rest[..end + tail.len()], Some(port)),
        None => (rest, None),
    };
    let is_host = |byte: u8| byte.is_ascii_graphic() && !b"/?#@\\*,\"".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_host) || (end == 0 && host.contains(['[', ']'])) {
        return None;
    }
    let port = match (port, scheme.as_str()) {
        (Some(digits), _) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        (Some(_), _) => return None,
        (None, "https") => Some(443),
        (None, "http") => Some(80),
        (None, _) => None,
    };
    Some((scheme, host.to_ascii_lowercase(), port))
}
