//! Origins against what a server allows.

mod common;

use common::headers;
use proptest::prelude::*;
use wt_proto::dialect::Dialect;
use wt_proto::headers::ConnectRequest;
use wt_proto::origin::{OriginPattern, OriginPolicy};

fn pattern(text: &str) -> OriginPattern {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn request(authority: &str, origins: &[&str]) -> ConnectRequest {
    let fields: Vec<_> = origins.iter().map(|origin| ("origin", *origin)).collect();
    ConnectRequest::new(Dialect::D15, authority, "/", headers(&fields))
}

#[test]
fn patterns_match_scheme_host_and_port() {
    let table: [(&str, &[&str], &[&str]); 8] = [
        (
            "https://example.org",
            &["https://example.org", "https://example.org:443", "HTTPS://Example.ORG"],
            &[
                "http://example.org",
                "https://example.org:8443",
                "https://a.example.org",
                "https://example.org.evil",
                "https://evil-example.org",
                "https://example.org/",
                "https://example.org@evil",
                "null",
                "",
                "example.org",
                "https://",
                "https://example.org https://evil",
            ],
        ),
        (
            "https://*.example.org",
            &["https://a.example.org", "https://a.b.example.org"],
            &[
                "https://example.org",
                "https://.example.org",
                "https://aexample.org",
                "https://a.example.org:1",
            ],
        ),
        (
            "https://example.org:*",
            &[
                "https://example.org",
                "https://example.org:1",
                "https://example.org:65535",
            ],
            &[
                "https://a.example.org",
                "https://example.org:65536",
                "https://example.org:x",
                "https://example.org:",
            ],
        ),
        (
            "https://*.example.org:*",
            &["https://a.example.org:5"],
            &["https://example.org:5"],
        ),
        (
            "http://localhost:8080",
            &["http://localhost:8080"],
            &["http://localhost", "https://localhost:8080"],
        ),
        (
            "https://[::1]:*",
            &["https://[::1]:5", "https://[::1]"],
            &["https://::1", "https://[::2]:5"],
        ),
        (
            "chrome-extension://abc",
            &["chrome-extension://abc"],
            &["chrome-extension://abd"],
        ),
        ("null", &["null"], &["https://null", "Null"]),
    ];
    for (text, allowed, refused) in table {
        for origin in allowed {
            assert!(pattern(text).matches(origin), "{text} allows {origin}");
        }
        for origin in refused {
            assert!(!pattern(text).matches(origin), "{text} refuses {origin:?}");
        }
    }
    assert!(pattern("*").matches("https://anybody") && pattern("*").matches("null"));
}

#[test]
fn a_pattern_that_can_match_nothing_is_refused() {
    for text in [
        "",
        "example.org",
        "https://",
        "https://example.org/",
        "https://example.org/path",
        "https://me@example.org",
        "https://*",
        "https://a.*.org",
        "https://*example.org",
        "*://example.org",
        "https://example.org:x",
        "https://example.org:70000",
        "https://example org",
        "https://[::1",
        "://example.org",
        "https://a?b",
    ] {
        assert!(text.parse::<OriginPattern>().is_err(), "{text}");
    }
}

#[test]
fn the_same_origin_is_that_of_the_authority() {
    let policy = OriginPolicy::SameOrigin;
    for (authority, origin) in [
        ("example.org", "https://example.org"),
        ("Example.org:443", "https://example.org"),
        ("example.org", "https://EXAMPLE.org:443"),
        ("[::1]:4433", "https://[::1]:4433"),
    ] {
        assert!(policy.allows(&request(authority, &[origin])), "{authority} {origin}");
    }
    for (authority, origin) in [
        ("example.org:4433", "https://example.org"),
        ("example.org", "http://example.org"),
        ("example.org", "https://a.example.org"),
        ("example.org", "null"),
        ("null", "null"),
    ] {
        assert!(!policy.allows(&request(authority, &[origin])), "{authority} {origin}");
    }
}

#[test]
fn without_an_origin_every_policy_lets_pass_and_with_two_both_must_be_allowed() {
    let list = OriginPolicy::List(vec![pattern("https://a"), pattern("https://b")]);
    for policy in [
        &OriginPolicy::Any,
        &OriginPolicy::SameOrigin,
        &list,
        &OriginPolicy::List(Vec::new()),
    ] {
        assert!(policy.allows(&request("example.org", &[])));
    }
    assert!(list.allows(&request("example.org", &["https://b", "https://a"])));
    assert!(!list.allows(&request("example.org", &["https://a", "https://c"])));
    assert!(!OriginPolicy::List(Vec::new()).allows(&request("example.org", &["https://a"])));
    assert!(OriginPolicy::Any.allows(&request("example.org", &["anything"])));
}

proptest! {
    #[test]
    fn any_text_is_checked_without_a_panic(text in "[a-z*]{0,4}(://)?[\\[\\]a-z0-9.:*@/]{0,20}|\\PC{0,30}", origin in "\\PC{0,30}") {
        if let Ok(pattern) = text.parse::<OriginPattern>() {
            let _ = pattern.matches(&origin);
            let _ = pattern.matches(&text);
        }
        let _ = OriginPolicy::SameOrigin.allows(&request(&text, &[&origin]));
    }
}
