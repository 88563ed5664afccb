//! What `qemu-io` prints.

use bstr::ByteSlice;

/// Removes the lines with times and rates, which follow every transfer.
#[must_use]
pub fn hide_rates(text: &[u8]) -> Vec<u8> {
    super::keep_lines(text, |line| !is_rate(line))
}

/// `64 KiB, 1 ops; 00.00 sec (1.2 GiB/sec and 19718.0 ops/sec)` and similar.
fn is_rate(line: &[u8]) -> bool {
    line.contains_str(" ops; ") && (line.ends_with(b" ops/sec)") || line.contains_str("nan"))
}

/// Splits `text`, what `qemu-io` printed while it read commands from a pipe: what
/// came before the first prompt, then one piece a command.
#[must_use]
pub fn split_at_prompts<'a>(text: &'a [u8], prompt: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut from = 0;
    while let Some(at) = text[from..].find(prompt).map(|n| n + from) {
        // A prompt is at the start of a line, or directly after another.
        if at == 0 || text[at - 1] == b'\n' || at == start {
            pieces.push(&text[start..at]);
            start = at + prompt.len();
        }
        from = at + prompt.len();
    }
    pieces.push(&text[start..]);
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_are_removed_and_results_stay() {
        let text = b"wrote 65536/65536 bytes at offset 0\n64 KiB, 1 ops; 00.02 sec (3.208 MiB/sec and 51.3284 ops/sec)\nx\n";
        assert_eq!(
            hide_rates(text),
            b"wrote 65536/65536 bytes at offset 0\nx\n"
        );
    }

    #[test]
    fn pieces_follow_the_prompts() {
        let got = split_at_prompts(
            b"warn\nqemu-io> wrote\n1 ops\nqemu-io> qemu-io> ",
            b"qemu-io> ",
        );
        assert_eq!(got, [&b"warn\n"[..], b"wrote\n1 ops\n", b"", b""]);
    }

    proptest! {
        #[test]
        fn twice_is_as_once(lines in prop::collection::vec("[a-z0-9 ;,./()]{0,40}", 0..6)) {
            let once = hide_rates(lines.join("\n").as_bytes());
            prop_assert_eq!(hide_rates(&once), once);
        }

        #[test]
        fn pieces_and_prompts_are_the_text(parts in prop::collection::vec(prop_oneof![Just("> "), Just("a"), Just("\n")], 0..20)) {
            let text = parts.concat();
            let pieces = split_at_prompts(text.as_bytes(), b"> ");
            prop_assert_eq!(pieces.join(&b"> "[..]), text.as_bytes());
        }
    }
}
