//! Text and names of files as HTML has them.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Text as HTML shows it.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A sentence in which names stand between backticks.
pub(super) fn with_code(text: &str) -> String {
    let mut parts = text.split('`');
    let mut html = escape(parts.next().unwrap_or_default());
    while let Some(name) = parts.next() {
        match parts.next() {
            Some(rest) => {
                html.push_str(&format!("<code>{}</code>{}", escape(name), escape(rest)));
            }
            // One without a partner.
            None => html.push_str(&escape(&format!("`{name}"))),
        }
    }
    html
}

/// A path as a relative or absolute reference, from a page in `folder`.
pub(super) fn reference(path: &Path, folder: &Path) -> String {
    let path = path.strip_prefix(folder).unwrap_or(path);
    let bytes = path.as_os_str().as_bytes().iter();
    bytes
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                char::from(*byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_html() {
        assert_eq!(
            with_code("`a<b` is 'x', not `c`"),
            "<code>a&lt;b</code> is 'x', not <code>c</code>"
        );
        assert_eq!(with_code("one ` alone & more"), "one ` alone &amp; more");
        let to = |path: &str| reference(Path::new(path), Path::new("/a b"));
        assert_eq!(to("/a b/w/f.md"), "w/f.md");
        assert_eq!(to("/c d/\u{e9}#"), "/c%20d/%C3%A9%23");
    }
}
