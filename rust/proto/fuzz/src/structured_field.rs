//! Structured fields: what is read has only characters that can be written, and is read again.

use wt_proto::structured_field::{format_string, format_strings, parse_string, parse_strings};

/// `text` are the field lines of one name, one a line.
pub fn check(text: &str) {
    let list = parse_strings(text.split('\n'));
    if let Some(strings) = &list {
        // Between lines stands a comma with a space, even inside a String (RFC 9651 section 4.2 leaves that open).
        let field = text.len() + text.matches('\n').count();
        assert!(strings.iter().map(|string| string.len() + 2).sum::<usize>() <= field);
        let again = format_strings(strings).expect("printable");
        assert_eq!(parse_strings([again.as_str()].into_iter()).as_ref(), Some(strings));
    }
    let item = parse_string(text.split('\n'));
    if let Some(string) = item {
        let again = format_string(&string).expect("printable");
        assert_eq!(parse_string([again.as_str()].into_iter()), Some(string.clone()));
        assert_eq!(list, Some(vec![string]), "an Item is a List of one");
    }
    // RFC 9651 section 4.2: several lines are one field.
    let lines: Option<Vec<_>> = text
        .split('\n')
        .map(|line| parse_strings([line].into_iter()).filter(|strings| !strings.is_empty()))
        .collect();
    if let Some(lines) = lines {
        assert_eq!(parse_strings(text.split('\n')), Some(lines.concat()));
    }
}
