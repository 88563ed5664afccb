//! GUIDs in binary form, as Microsoft's formats store them: three little-endian numbers, then
//! eight bytes.

use data_encoding::HEXLOWER_PERMISSIVE;

use crate::pattern::Pattern;

/// A GUID, or a UUID, in the bytes that are stored.
pub(crate) type Guid = [u8; 16];

/// The GUID whose text is `{a-b-c-d}`, the dash within `d` left out.
pub(crate) const fn guid(a: u32, b: u16, c: u16, d: u64) -> Guid {
    let (a, b, c, d) = (
        a.to_le_bytes(),
        b.to_le_bytes(),
        c.to_le_bytes(),
        d.to_be_bytes(),
    );
    [
        a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6],
        d[7],
    ]
}

/// Its text in braces and in small letters.
pub(crate) fn text(guid: &Guid) -> String {
    let digits = |range: std::ops::Range<usize>, reverse: bool| {
        let mut bytes = guid[range].to_vec();
        if reverse {
            bytes.reverse();
        }
        data_encoding::HEXLOWER.encode(&bytes)
    };
    let (a, b, c) = (digits(0..4, true), digits(4..6, true), digits(6..8, true));
    format!(
        "{{{a}-{b}-{c}-{}-{}}}",
        digits(8..10, false),
        digits(10..16, false)
    )
}

/// The GUID that a text in braces stands for, in letters of any case.
pub(crate) fn parse(text: &str) -> Option<Guid> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let parts: Vec<&str> = inner.split('-').collect();
    if !parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) {
        return None;
    }
    let digits = parts.concat();
    let mut bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
    bytes[0..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes.try_into().ok()
}

/// A GUID of the random kind, number `index` of those that `seed` gives.
pub(crate) fn seeded(seed: u64, index: u64) -> Guid {
    let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index);
    let mut guid: Guid = [0; 16];
    guid.copy_from_slice(&Pattern::Noise(seed).bytes(16));
    guid[7] = guid[7] & 0x0f | 0x40;
    guid[8] = guid[8] & 0x3f | 0x80;
    guid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_stand_for_each_other() {
        let known = guid(0x83ed_0ec3, 0x24c8, 0x49a6, 0xa959_5e4b_f128_8bfb);
        let shown = "{83ed0ec3-24c8-49a6-a959-5e4bf1288bfb}";
        assert_eq!(text(&known), shown);
        assert_eq!(parse(shown), Some(known));
        assert_eq!(parse(&shown.to_uppercase()), Some(known));
        for wrong in [
            "",
            "{}",
            "83ed0ec3",
            "{83ed0ec3-24c8-49a6-a959-5e4bf1288bfg}",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_ne!(seeded(1, 0), seeded(1, 1));
        assert_eq!(parse(&text(&seeded(7, 3))), Some(seeded(7, 3)));
    }
}
