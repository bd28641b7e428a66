//! Origins against patterns and against the host that is asked.

use wt_proto::dialect::Dialect;
use wt_proto::headers::ConnectRequest;
use wt_proto::origin::{OriginPattern, OriginPolicy};

/// `text` has three lines: a pattern, the value of an Origin header, the value of `:authority`.
pub fn check(text: &str) {
    let mut lines = text.splitn(3, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let (pattern, origin, authority) = (next(), next(), next());
    let request = |headers| ConnectRequest::new(Dialect::D15, authority, "/", headers);
    let from = |origin: &str| request(vec![("origin".to_owned(), origin.to_owned())]);
    if let Ok(parsed) = pattern.parse::<OriginPattern>() {
        check_pattern(&parsed, origin);
        // By the texts alone: a pattern for subdomains matches whole labels.
        if let Some((_, rest)) = pattern.split_once("://*.")
            && parsed.matches(origin)
        {
            let host = rest.split(':').next().unwrap_or_default().to_ascii_lowercase();
            let found = origin.to_ascii_lowercase().contains(&format!(".{host}"));
            assert!(found, "{origin} matched {pattern}");
        }
        let pattern = parsed;
        let policy = OriginPolicy::List(vec![pattern.clone()]);
        assert_eq!(policy.allows(&from(origin)), pattern.matches(origin));
        assert!(policy.allows(&request(Vec::new())), "no browser");
    }
    // A page of the server itself is what a pattern of the server's own address matches.
    if let Ok(own) = format!("https://{authority}").parse::<OriginPattern>()
        && is_exact(&own)
    {
        assert_eq!(OriginPolicy::SameOrigin.allows(&from(origin)), own.matches(origin));
    }
    assert!(!OriginPolicy::List(Vec::new()).allows(&from(origin)));
}

fn check_pattern(pattern: &OriginPattern, origin: &str) {
    match pattern {
        OriginPattern::Any => assert!(pattern.matches(origin)),
        OriginPattern::Null => assert_eq!(pattern.matches(origin), origin == "null"),
        OriginPattern::Tuple { host, subdomains, .. } => {
            let upper = origin.to_ascii_uppercase();
            assert_eq!(pattern.matches(&upper), pattern.matches(origin), "{upper}");
            if pattern.matches(origin) {
                let lower = origin.to_ascii_lowercase();
                let (_, rest) = lower.split_once("://").expect("an origin has a scheme");
                if *subdomains {
                    assert!(rest[1..].contains(host.as_str()), "behind a label: {origin}");
                } else {
                    assert!(rest.starts_with(host.as_str()), "from its start: {origin}");
                }
            }
        }
    }
}

fn is_exact(pattern: &OriginPattern) -> bool {
    matches!(
        pattern,
        OriginPattern::Tuple {
            subdomains: false,
            port: Some(_),
            ..
        }
    )
}
