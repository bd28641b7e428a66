//! Strings in structured fields.

use proptest::prelude::*;
use wt_proto::structured_field::{format_string, format_strings, parse_string, parse_strings};

fn list(field: &str) -> Option<Vec<String>> {
    parse_strings([field].into_iter())
}

fn item(field: &str) -> Option<String> {
    parse_string([field].into_iter())
}

fn strings(members: &[&str]) -> Option<Vec<String>> {
    Some(members.iter().map(|member| member.to_string()).collect())
}

#[test]
fn lists_of_strings() {
    assert_eq!(list(""), strings(&[]));
    assert_eq!(list("  "), strings(&[]));
    assert_eq!(list(r#""a""#), strings(&["a"]));
    assert_eq!(list("  \"a\" \t,\t \"b\",\"\"  "), strings(&["a", "b", ""]));
    assert_eq!(list(r#""say \"hi\" \\ bye""#), strings(&[r#"say "hi" \ bye"#]));
    // Several lines are one list.
    assert_eq!(
        parse_strings([r#""a""#, r#""b", "c""#].into_iter()),
        strings(&["a", "b", "c"])
    );
}

#[test]
fn a_member_of_another_type_voids_the_list() {
    for other in [
        "a",
        "1",
        "-1.5",
        ":YQ==:",
        "?1",
        "@1659578233",
        r#"%"a""#,
        r#"("a" "b")"#,
    ] {
        assert_eq!(list(other), None, "{other}");
        assert_eq!(list(&format!(r#""a", {other}, "b""#)), None, "{other}");
        assert_eq!(item(other), None, "{other}");
    }
}

#[test]
fn malformed_fields_are_no_value() {
    for bad in [
        r#"""#,
        r#""a"#,
        r#""a" "b""#,
        r#""a","#,
        r#""a", "#,
        r#","a""#,
        r#""a",,"b""#,
        r#""\n""#,
        r#""\"#,
        "\"\t\"",
        "\"\u{e9}\"",
        "\"\u{7f}\"",
        "\t\"a\"",
        r#""a";"#,
        r#""a";A"#,
        r#""a";b="#,
        r#""a";b=c d"#,
        r#""a" ;b"#,
    ] {
        assert_eq!(list(bad), None, "{bad}");
        assert_eq!(item(bad), None, "{bad}");
    }
    assert_eq!(item(""), None);
    assert_eq!(item(r#""a", "b""#), None);
    assert_eq!(
        parse_string([r#""a""#, r#""a""#].into_iter()),
        None,
        "an item has one line"
    );
    assert_eq!(parse_string(std::iter::empty()), None);
    assert_eq!(parse_strings(std::iter::empty()), strings(&[]));
}

#[test]
fn parameters_are_skipped() {
    let all = r#""a";b;c=1;  d=-1.125;*e="x, \"y";f=tok/en:*;g=:YQ==:;h=?0;i=@-5;j=%"f%c3%bc%22r""#;
    assert_eq!(item(all), Some("a".to_owned()));
    assert_eq!(list(&format!(r#"{all}, "b";q"#)), strings(&["a", "b"]));
    for bad in [
        "1234567890123456",
        "1.",
        "1.1234",
        "1234567890123.1",
        "-",
        ":YQ",
        "?2",
        "@1.5",
        "@",
        r#"%"%C3""#,
        r#"%"%ff""#,
        r#"%"%f"#,
        r#"%a"#,
        "é",
        "()",
    ] {
        assert_eq!(item(&format!(r#""a";b={bad}"#)), None, "{bad}");
    }
}

#[test]
fn only_printable_ascii_can_be_written() {
    assert_eq!(format_string(r#"a "\"#), Some(r#""a \"\\""#.to_owned()));
    for bad in ["\n", "\u{7f}", "ü"] {
        assert_eq!(format_string(bad), None);
        assert_eq!(format_strings(&["ok".into(), bad.into()]), None);
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(members in proptest::collection::vec("[ -~]{0,20}", 0..8)) {
        let field = format_strings(&members).expect("printable");
        prop_assert_eq!(list(&field), Some(members.clone()));
        for member in members {
            let field = format_string(&member).expect("printable");
            prop_assert_eq!(item(&field), Some(member));
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic(field in r#"["\\;=,:?@%*()a-z0-9. \t-]{0,40}|\PC{0,40}"#) {
        // A list of one string is that string as an item.
        if let Some(string) = item(&field) {
            prop_assert_eq!(list(&field), Some(vec![string]));
        }
    }
}
