//! The rules of both versions.

use super::layout::sections;
use crate::checker::rules;

rules! {
    /// The volume begins with the magic bytes.
    MAGIC = Must, sections::PARTITION_HEADER, "magic";
    /// The version is 1 or 2.
    VERSION = Must, sections::PARTITION_HEADER, "version";
    /// Names end in a zero byte.
    TEXT_ENDS = Must, sections::PARTITION_HEADER, "text-ends";
    /// The cipher and how it is used are known.
    CIPHER = Should, sections::NAMES, "cipher";
    /// The hash is known.
    HASH = Should, sections::NAMES, "hash";
    /// The key has a length that the cipher takes.
    KEY_BYTES = Must, sections::PARTITION_HEADER, "key-bytes";
    /// The payload starts behind the header.
    PAYLOAD_BEHIND_HEADER = Must, sections::PARTITION_HEADER, "payload-behind-header";
    /// The payload starts within the file.
    PAYLOAD_INSIDE = Must, sections::PARTITION_HEADER, "payload-inside-file";
    /// The digest of the key has iterations.
    DIGEST_ITERATIONS = Must, sections::PARTITION_HEADER, "digest-iterations";
    /// The UUID is one, and ends in a zero byte.
    UUID = Should, sections::PARTITION_HEADER, "uuid";
    /// A key slot is in use or not.
    SLOT_STATE = Must, sections::KEY_SLOTS, "slot-state";
    /// Some key slot is in use.
    SOME_SLOT = Should, sections::KEY_SLOTS, "some-slot";
    /// A key slot in use has iterations.
    SLOT_ITERATIONS = Must, sections::KEY_SLOTS, "slot-iterations";
    /// A key is spread over 4000 stripes.
    STRIPES = Must, sections::SPLITTER, "stripes";
    /// Key material starts behind the header.
    MATERIAL_BEHIND_HEADER = Must, sections::KEY_SLOTS, "material-behind-header";
    /// Key material ends before the payload.
    MATERIAL_BEFORE_PAYLOAD = Must, sections::KEY_SLOTS, "material-before-payload";
    /// Key material of slots in use is within the file.
    MATERIAL_INSIDE = Must, sections::KEY_SLOTS, "material-inside-file";
    /// Key material of different slots does not overlap.
    MATERIAL_ONCE = Must, sections::KEY_SLOTS, "material-overlaps";

    /// The second header of version 2 begins with its magic bytes.
    SECOND_MAGIC = Should, sections::BINARY_HEADER, "second-magic";
    /// The second header repeats the first one.
    SECOND_COPY = Should, sections::BINARY_HEADER, "second-header";
    /// The header with its JSON area has one of the allowed lengths, and is within the file.
    HEADER_SIZE = Must, sections::BINARY_HEADER, "header-size";
    /// The header says where it is.
    HEADER_OFFSET = Must, sections::BINARY_HEADER, "header-offset";
    /// The sequence number is not 0.
    SEQUENCE = Should, sections::BINARY_HEADER, "sequence-id";
    /// Label and subsystem end in a zero byte.
    LABEL_ENDS = Must, sections::BINARY_HEADER, "label-ends";
    /// The algorithm of the checksum is known.
    CHECKSUM_ALGORITHM = Must, sections::BINARY_HEADER, "checksum-algorithm";
    /// The checksum is that of the header and its JSON area.
    CHECKSUM = Must, sections::BINARY_HEADER, "checksum";
    /// The padding of the header is zeros.
    HEADER_PADDING = Should, sections::BINARY_HEADER, "header-padding";
    /// The JSON area has an object in JSON, and zeros behind it.
    JSON_SYNTAX = Must, sections::JSON_AREA, "json-syntax";
    /// The object has the mandatory members, which have the right types.
    JSON_MEMBER = Must, sections::JSON_AREA, "json-member";
    /// Objects are named by decimal numbers.
    JSON_NAME = Must, sections::JSON_AREA, "json-name";
    /// The type of an object is known.
    JSON_TYPE = Should, sections::JSON_AREA, "json-type";
    /// What refers to an object refers to one that is there.
    JSON_REFERENCE = Must, sections::JSON_AREA, "json-reference";
    /// A keyslot belongs to one digest.
    KEYSLOT_DIGEST = Should, sections::DIGESTS, "keyslot-digest";
    /// The size of a key is that which its cipher takes.
    KEY_SIZE = Must, sections::KEYSLOTS, "key-size";
    /// The priority is 0, 1 or 2.
    PRIORITY = Must, sections::KEYSLOTS, "priority";
    /// A key is spread over 4000 stripes.
    AREA_STRIPES = Must, sections::KEYSLOTS, "area-stripes";
    /// The area of a keyslot starts with 4 KiB.
    AREA_ALIGNED = Should, sections::KEYSLOTS_AREA, "area-aligned";
    /// The area of a keyslot is between headers and payload.
    AREA_INSIDE = Must, sections::KEYSLOTS_AREA, "area-inside";
    /// The area of a keyslot has room for its stripes.
    AREA_SIZE = Must, sections::KEYSLOTS_AREA, "area-size";
    /// The areas of keyslots do not overlap.
    AREA_ONCE = Must, sections::KEYSLOTS_AREA, "area-overlaps";
    /// A key derivation has iterations, memory and threads within their ranges.
    KDF_COST = Must, sections::KEYSLOTS, "kdf-cost";
    /// Salts and digests are base64.
    BASE64 = Must, sections::JSON_AREA, "base64";
    /// The name of a hash or of a cipher is known.
    ALGORITHM = Should, sections::JSON_AREA, "algorithm";
    /// A segment starts with a sector, behind headers and keyslots.
    SEGMENT_OFFSET = Must, sections::SEGMENTS, "segment-offset";
    /// A segment has a size in whole sectors, or the rest of the device.
    SEGMENT_SIZE = Must, sections::SEGMENTS, "segment-size";
    /// A sector has 512, 1024, 2048 or 4096 bytes.
    SECTOR_SIZE = Must, sections::SEGMENTS, "sector-size";
    /// A segment in use starts within the file.
    SEGMENT_INSIDE = Must, sections::SEGMENTS, "segment-inside-file";
    /// The size of the JSON area is that which the header has room for.
    JSON_SIZE = Must, sections::CONFIG, "json-size";
    /// The area of keyslots is of whole blocks of 4 KiB, and before the payload.
    KEYSLOTS_SIZE = Must, sections::CONFIG, "keyslots-size";
    /// No unknown requirement is mandatory.
    REQUIREMENTS = Must, sections::CONFIG, "requirements";
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::format::{AnyImage, Format};
    use crate::luks::{Spec, build};
    use crate::structure::Derivation;
    use crate::value::Value;

    fn image(version: u8) -> AnyImage {
        let mut spec = Spec {
            version,
            ..Spec::default()
        };
        let mut second = spec.slots[0].clone();
        second.index = 1;
        spec.slots.push(second);
        let bytes = build(&spec, "i").unwrap().swap_remove(0).bytes;
        AnyImage::open(Arc::new(bytes), Format::Luks).unwrap()
    }

    fn number(value: u64) -> Value {
        Value::Uint(value)
    }

    /// Sets one field and expects the rule to be broken.
    fn expect(version: u8, path: &str, value: Value, rule: &str) {
        let mut image = image(version);
        assert_eq!(image.defects().unwrap(), []);
        let text = value.to_string();
        image.set(path, value).unwrap();
        if rule != "checksum" {
            image.recompute(&[Derivation::Checksum]);
        }
        let defects = image.defects().unwrap();
        let found = defects.iter().any(|defect| defect.name == rule);
        assert!(found, "{path} = {text}: no {rule}: {defects:?}");
    }

    /// Each rule of version 1, broken by one field.
    #[test]
    fn every_rule_of_version_1_is_noticed() {
        let long = |byte: u8| Value::Bytes(vec![byte; 32]);
        for (path, value, rule) in [
            ("header.magic", "LUKS!!".into(), "magic"),
            ("header.version", number(3), "version"),
            ("header.cipher_name", long(b'a'), "text-ends"),
            ("header.cipher_mode", long(b'a'), "text-ends"),
            ("header.hash_spec", long(b'a'), "text-ends"),
            ("header.cipher_name", "des".into(), "cipher"),
            ("header.cipher_mode", "cbc".into(), "cipher"),
            ("header.hash_spec", "crc32".into(), "hash"),
            ("header.key_bytes", number(17), "key-bytes"),
            ("header.key_bytes", number(0), "key-bytes"),
            ("header.payload_offset", number(1), "payload-behind-header"),
            (
                "header.payload_offset",
                number(1 << 20),
                "payload-inside-file",
            ),
            (
                "header.payload_offset",
                number(u64::from(u32::MAX)),
                "payload-inside-file",
            ),
            (
                "header.mk_digest_iterations",
                number(0),
                "digest-iterations",
            ),
            ("header.uuid", "0".into(), "uuid"),
            ("header.uuid", Value::Bytes(vec![b'0'; 40]), "uuid"),
            ("key_slot[5].active", number(7), "slot-state"),
            ("key_slot[0].iterations", number(0), "slot-iterations"),
            ("key_slot[7].stripes", number(0), "stripes"),
            ("key_slot[0].stripes", number(4001), "stripes"),
            (
                "key_slot[1].key_material_offset",
                number(1),
                "material-behind-header",
            ),
            (
                "key_slot[1].key_material_offset",
                number(1000),
                "material-before-payload",
            ),
            (
                "key_slot[1].key_material_offset",
                number(1 << 31),
                "material-inside-file",
            ),
            (
                "key_slot[1].key_material_offset",
                number(9),
                "material-overlaps",
            ),
        ] {
            expect(1, path, value, rule);
        }
        let mut image = image(1);
        image.set("key_slot[0].active", 0xdead).unwrap();
        assert_eq!(image.defects().unwrap(), []);
        image.set("key_slot[1].active", 0xdead).unwrap();
        assert_eq!(image.defects().unwrap()[0].name, "some-slot");
    }

    /// Each rule of version 2, broken by one field.
    #[test]
    fn every_rule_of_version_2_is_noticed() {
        let json = |path: &str| format!("header[0].json.{path}");
        for (path, value, rule) in [
            ("magic", "LUKS!!".into(), "magic"),
            ("version", number(3), "version"),
            ("hdr_size", number(4096), "header-size"),
            ("hdr_size", number(1 << 22), "header-size"),
            ("seqid", number(0), "sequence-id"),
            ("seqid", number(2), "second-header"),
            ("label", Value::Bytes(vec![b'a'; 48]), "label-ends"),
            ("subsystem", Value::Bytes(vec![b'a'; 48]), "label-ends"),
            ("csum_alg", "md5".into(), "checksum-algorithm"),
            ("uuid", "x".into(), "uuid"),
            ("hdr_offset", number(1), "header-offset"),
            ("padding", "x".into(), "header-padding"),
            ("csum", "x".into(), "checksum"),
            ("salt", "x".into(), "checksum"),
            ("json", "{".into(), "json-syntax"),
            ("json", "{}".into(), "json-member"),
        ] {
            expect(2, &format!("header[0].{path}"), value, rule);
        }
        for (path, value, rule) in [
            ("keyslots.0.type", "luks9".into(), "json-type"),
            ("keyslots.0.key_size", number(0), "key-size"),
            ("keyslots.0.area.key_size", number(17), "key-size"),
            ("keyslots.0.af.stripes", number(1), "area-stripes"),
            ("keyslots.0.af.hash", "crc".into(), "algorithm"),
            ("keyslots.0.area.offset", number(32769), "area-aligned"),
            ("keyslots.0.area.offset", number(0), "area-inside"),
            ("keyslots.0.area.size", number(99999), "area-overlaps"),
            ("keyslots.0.area.size", number(4096), "area-size"),
            ("keyslots.1.kdf.iterations", number(0), "kdf-cost"),
            ("keyslots.1.kdf.type", "scrypt".into(), "json-type"),
            ("segments.0.offset", number(99), "segment-offset"),
            ("segments.0.offset", number(999_936), "segment-inside-file"),
            ("segments.0.size", "dynamo".into(), "segment-size"),
            ("segments.0.sector_size", number(600), "sector-size"),
            ("segments.0.encryption", "aes".into(), "algorithm"),
            ("segments.0.iv_tweak", "x".into(), "json-member"),
            ("digests.0.keyslots[0]", number(7), "json-reference"),
            ("digests.0.keyslots[0]", number(1), "keyslot-digest"),
            ("digests.0.segments[0]", number(1), "json-reference"),
            ("digests.0.iterations", number(0), "kdf-cost"),
            ("config.json_size", number(12287), "json-size"),
            ("config.keyslots_size", number(4097), "keyslots-size"),
        ] {
            let path = json(path);
            let mut changed = image(2);
            // Digits become text where the rule is about that.
            if changed.field(&path).unwrap().place.is_number() && value.as_uint().is_none() {
                let offset = changed.field(&path).unwrap().offset;
                changed.bytes_mut().write(offset, b"x");
                let defects = changed.defects().unwrap();
                assert!(defects.iter().any(|defect| defect.name == rule), "{path}");
                continue;
            }
            expect(2, &path, value, rule);
        }
    }

    /// Rules about what the builder has no member for.
    #[test]
    fn rules_of_optional_members_are_noticed() {
        for (from, to, rule) in [
            (
                "\"key_size\":16,\"af\"",
                "\"priority\":3,\"af\"",
                "priority",
            ),
            ("\"salt\":\"", "\"salt\":\"*", "base64"),
            ("\"tokens\":{}", "\"tokens\":{\"x\":{}}", "json-name"),
            (
                "\"config\":{",
                "\"config\":{\"requirements\":{\"mandatory\":[\"x\"]},",
                "requirements",
            ),
        ] {
            let mut image = image(2);
            let text = image.field("header[0].json").unwrap().value;
            let text = String::from_utf8(text.as_bytes().unwrap().to_vec()).unwrap();
            let text = text.trim_end_matches('\0').replacen(from, to, 1);
            image.set("header[0].json", &text[..]).unwrap();
            image.recompute(&[Derivation::Copy, Derivation::Checksum]);
            let defects = image.defects().unwrap();
            let found = defects.iter().any(|defect| defect.name == rule);
            assert!(found, "{rule}: {defects:?}");
        }
        let mut image = image(2);
        image.set("header[1].magic", "SKULL!").unwrap();
        image.recompute(&[Derivation::Checksum]);
        assert_eq!(image.defects().unwrap()[0].name, "second-magic");
    }

    /// A volume whose key slots have no stripes was without defects.
    #[test]
    fn no_stripes_are_a_defect() {
        let mut image = image(1);
        for slot in 0..8 {
            image.set(&format!("key_slot[{slot}].stripes"), 0).unwrap();
        }
        assert_eq!(image.defects().unwrap().len(), 8);
    }
}
