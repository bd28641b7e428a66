//! The mapping of application codes into codes of HTTP/3.

use arbitrary::Arbitrary;
use wt_proto::error_code::{Code, from_http, to_http};

/// One code of each kind.
#[derive(Debug, Arbitrary)]
pub struct Input {
    application: u32,
    near: u32,
    http: u64,
}

impl Input {
    /// Every application code has an HTTP code of its own, in the same order, and no other code stands for one.
    pub fn check(self) {
        let code = to_http(self.application);
        assert_eq!(from_http(code), Some(self.application));
        if let Some(next) = self.application.checked_add(1) {
            assert!(to_http(next).0 > code.0);
        }
        // Any code, and one around the range, whatever the fuzzer makes of 64 bits.
        for http in [self.http, FIRST.wrapping_add(u64::from(self.near)).wrapping_sub(100)] {
            let code = Code(http);
            match from_http(code) {
                Some(application) => assert_eq!(to_http(application), code),
                None => assert!(!(FIRST..=LAST).contains(&http) || (http - 0x21) % 0x1f == 0),
            }
            assert!(!code.to_string().is_empty() && code.name().is_none_or(|name| name == code.to_string()));
        }
    }
}

/// §9.5.
const FIRST: u64 = 0x52e4_a40f_a8db;
const LAST: u64 = 0x52e5_ac98_3162;
