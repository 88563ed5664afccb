//! The rules of the objects in a JSON area.

use super::Objects;
use crate::checker::Checker;
use crate::io::ReadAt as _;
use crate::luks::cipher::Scheme;
use crate::luks::hash::Hash;
use crate::luks::rules;
use crate::luks::split::STRIPES;
use crate::luks::v2::area::{Area, base64, is_backup, names};
use crate::luks::v2::json::{Json, Node};
use crate::luks::v2::layout::BINARY;

/// The requirements that the specification and its implementation know.
const REQUIREMENTS: [&str; 5] = [
    "offline-reencrypt",
    "online-reencrypt",
    "online-reencrypt-v2",
    "inline-hw-tags",
    "opal",
];

impl Objects<'_> {
    pub(super) fn check(&self, checker: &mut Checker) {
        let keyslots = self.named("keyslots", checker);
        let tokens = self.named("tokens", checker);
        let segments = self.named("segments", checker);
        let digests = self.named("digests", checker);
        let end = self.config(checker);
        for (name, keyslot) in &keyslots {
            self.keyslot(name, keyslot, end, checker);
            let of = digests
                .iter()
                .filter(|(_, digest)| names(digest, "keyslots", name));
            let once = of.count() == 1;
            let path = format!("keyslots.{name}");
            let at = (&path[..], *keyslot, rules::KEYSLOT_DIGEST);
            self.require(once, at, checker, || "must belong to one digest".to_owned());
        }
        self.overlaps(&keyslots, checker);
        for (name, token) in &tokens {
            let path = format!("tokens.{name}");
            self.member((&path, token, "type"), checker, Json::text);
            self.references((&path, token, "keyslots"), &keyslots, checker);
        }
        for (name, digest) in &digests {
            let path = format!("digests.{name}");
            self.digest(&path, digest, checker);
            self.references((&path, digest, "keyslots"), &keyslots, checker);
            self.references((&path, digest, "segments"), &segments, checker);
        }
        for (name, segment) in &segments {
            self.segment(name, segment, end, checker);
        }
        self.require(
            !segments.is_empty(),
            ("segments", self.json, rules::JSON_MEMBER),
            checker,
            || "there must be a segment".to_owned(),
        );
    }

    /// Checks the configuration; the byte where the area of keyslots ends.
    fn config(&self, checker: &mut Checker) -> Option<u64> {
        let is_object = |json: &Json| matches!(json.node, Node::Object(_)).then_some(());
        let found = self.json.get("config");
        let config = found.filter(|json| is_object(json).is_some());
        let place = found.unwrap_or(self.json);
        let at = ("config", place, rules::JSON_MEMBER);
        self.require(config.is_some(), at, checker, || {
            "an object is missing".to_owned()
        });
        let config = config?;
        let size = ("config", config, "json_size");
        if let Some((size, json)) = self.member(size, checker, Json::number_in_text) {
            let wanted = self.header.size.saturating_sub(BINARY);
            let at = ("config.json_size", json, rules::JSON_SIZE);
            self.require(size == wanted, at, checker, || {
                format!("must be {wanted}, is {size}")
            });
        }
        let mandatory = config
            .get("requirements")
            .and_then(|of| of.get("mandatory"));
        for (index, json) in mandatory.map_or(&[][..], Json::elements).iter().enumerate() {
            let name = json.text().unwrap_or("");
            let path = format!("config.requirements.mandatory[{index}]");
            let at = (&path[..], json, rules::REQUIREMENTS);
            let known = REQUIREMENTS.contains(&name);
            self.require(known, at, checker, || {
                format!("'{}' is not known", name.escape_default())
            });
        }
        let size = ("config", config, "keyslots_size");
        let (size, json) = self.member(size, checker, Json::number_in_text)?;
        let headers = self.header.size.saturating_mul(2);
        let end = headers.saturating_add(size);
        let fits = size.is_multiple_of(4096) && end <= self.source.len();
        let at = ("config.keyslots_size", json, rules::KEYSLOTS_SIZE);
        self.require(fits, at, checker, || {
            format!("must be a multiple of 4096 within the file, is {size}")
        });
        Some(end)
    }

    fn keyslot(&self, name: &str, keyslot: &Json, end: Option<u64>, checker: &mut Checker) {
        let path = format!("keyslots.{name}");
        let Some((kind, json)) = self.member((&path, keyslot, "type"), checker, Json::text) else {
            return;
        };
        let at = (&format!("{path}.type")[..], json, rules::JSON_TYPE);
        let known = matches!(kind, "luks2" | "reencrypt");
        self.require(known, at, checker, || {
            format!("'{}' is not known", kind.escape_default())
        });
        if let Some(json) = keyslot.get("priority") {
            let allowed = json.number().is_some_and(|priority| priority <= 2);
            let at = (&format!("{path}.priority")[..], json, rules::PRIORITY);
            self.require(allowed, at, checker, || "must be 0, 1 or 2".to_owned());
        }
        let size = self.member((&path, keyslot, "key_size"), checker, Json::number);
        if kind != "luks2" {
            return;
        }
        if let Some((size, json)) = size {
            let at = (&format!("{path}.key_size")[..], json, rules::KEY_SIZE);
            self.require((1..=512).contains(&size), at, checker, || {
                format!("must be 1 to 512 bytes, is {size}")
            });
        }
        self.spread(&path, keyslot, checker);
        self.area(&path, keyslot, end, checker);
        self.kdf(&path, keyslot, checker);
    }

    /// The anti-forensic splitter of a keyslot.
    fn spread(&self, path: &str, keyslot: &Json, checker: &mut Checker) {
        let Some((spread, _)) = self.member((path, keyslot, "af"), checker, Some) else {
            return;
        };
        let path = format!("{path}.af");
        self.type_of((&path, spread), &["luks1"], checker);
        if let Some((stripes, json)) =
            self.member((&path, spread, "stripes"), checker, Json::number)
        {
            let at = (&format!("{path}.stripes")[..], json, rules::AREA_STRIPES);
            self.require(stripes == STRIPES as u64, at, checker, || {
                format!("must be 4000, is {stripes}")
            });
        }
        self.hash((&path, spread), checker);
    }

    fn area(&self, path: &str, keyslot: &Json, end: Option<u64>, checker: &mut Checker) {
        let Some((json, _)) = self.member((path, keyslot, "area"), checker, Some) else {
            return;
        };
        let path = format!("{path}.area");
        self.type_of((&path, json), &["raw"], checker);
        for name in ["offset", "size"] {
            self.member((&path, json, name), checker, Json::number_in_text);
        }
        self.member((&path, json, "encryption"), checker, Json::text);
        self.member((&path, json, "key_size"), checker, Json::number);
        let Some(area) = Area::of(keyslot) else {
            return;
        };
        self.encryption((&path, json), Some(area.key_size), checker);
        let member = |name: &str| (format!("{path}.{name}"), json.get(name).unwrap_or(json));
        let (at, offset) = (member("offset"), area.offset);
        let aligned = offset.is_multiple_of(4096);
        let rule = rules::AREA_ALIGNED;
        self.require(aligned, (&at.0, at.1, rule), checker, || {
            format!("must be a multiple of 4096, is {offset}")
        });
        let last = offset.checked_add(area.size);
        let from = self.header.size.saturating_mul(2);
        let inside = last.is_some_and(|last| end.is_none_or(|end| last <= end)) && offset >= from;
        let rule = rules::AREA_INSIDE;
        self.require(inside, (&at.0, at.1, rule), checker, || {
            format!(
                "the area is not within bytes {from} to {}",
                end.unwrap_or(0)
            )
        });
        let key = keyslot.get("key_size").and_then(Json::number).unwrap_or(0);
        let needed = key.saturating_mul(STRIPES as u64);
        let at = member("size");
        let rule = rules::AREA_SIZE;
        self.require(area.size >= needed, (&at.0, at.1, rule), checker, || {
            format!("must be at least {needed}, is {}", area.size)
        });
    }

    /// The areas of different keyslots must not overlap.
    fn overlaps(&self, keyslots: &[(&str, &Json)], checker: &mut Checker) {
        let areas = keyslots.iter().filter_map(|(name, keyslot)| {
            let area = Area::of(keyslot)?;
            Some((area.offset, area.size, *name, *keyslot))
        });
        let mut areas: Vec<_> = areas.collect();
        areas.sort_by_key(|(offset, size, ..)| (*offset, *size));
        for pair in areas.windows(2) {
            let (offset, size, earlier, _) = pair[0];
            let (next, _, name, keyslot) = pair[1];
            let apart = offset.saturating_add(size) <= next;
            let path = format!("keyslots.{name}.area.offset");
            let json = keyslot.get("area").and_then(|area| area.get("offset"));
            let at = (&path[..], json.unwrap_or(keyslot), rules::AREA_ONCE);
            self.require(apart, at, checker, || {
                format!("the area overlaps that of keyslot {earlier}")
            });
        }
    }

    fn kdf(&self, path: &str, keyslot: &Json, checker: &mut Checker) {
        let Some((kdf, _)) = self.member((path, keyslot, "kdf"), checker, Some) else {
            return;
        };
        let path = format!("{path}.kdf");
        let kinds = ["pbkdf2", "argon2i", "argon2id"];
        let kind = self.type_of((&path, kdf), &kinds, checker);
        self.base64((&path, kdf, "salt"), checker);
        let costs: &[&str] = match kind {
            Some("pbkdf2") => {
                self.hash((&path, kdf), checker);
                &["iterations"]
            }
            Some("argon2i" | "argon2id") => &["time", "memory", "cpus"],
            _ => &[],
        };
        for name in costs {
            let Some((cost, json)) = self.member((&path, kdf, name), checker, Json::number) else {
                continue;
            };
            let least = if *name == "memory" { 8 } else { 1 };
            let allowed = (least..=u64::from(u32::MAX)).contains(&cost);
            let at = (&format!("{path}.{name}")[..], json, rules::KDF_COST);
            self.require(allowed, at, checker, || {
                format!("must be {least} to {}, is {cost}", u32::MAX)
            });
        }
    }

    fn digest(&self, path: &str, digest: &Json, checker: &mut Checker) {
        self.type_of((path, digest), &["pbkdf2"], checker);
        self.hash((path, digest), checker);
        self.base64((path, digest, "salt"), checker);
        self.base64((path, digest, "digest"), checker);
        if let Some((iterations, json)) =
            self.member((path, digest, "iterations"), checker, Json::number)
        {
            let allowed = (1..=u64::from(u32::MAX)).contains(&iterations);
            let at = (&format!("{path}.iterations")[..], json, rules::KDF_COST);
            self.require(allowed, at, checker, || {
                format!("must be 1 to {}, is {iterations}", u32::MAX)
            });
        }
    }

    fn segment(&self, name: &str, segment: &Json, end: Option<u64>, checker: &mut Checker) {
        let path = format!("segments.{name}");
        let kind = self.type_of((&path, segment), &["crypt", "linear"], checker);
        let member = |name: &str| format!("{path}.{name}");
        let mut sector = 512;
        if kind == Some("crypt") {
            self.member((&path, segment, "iv_tweak"), checker, Json::number_in_text);
            self.member((&path, segment, "encryption"), checker, Json::text);
            self.encryption((&path, segment), None, checker);
            let found = self.member((&path, segment, "sector_size"), checker, Json::number);
            if let Some((size, json)) = found {
                let allowed = matches!(size, 512 | 1024 | 2048 | 4096);
                let at = (&member("sector_size")[..], json, rules::SECTOR_SIZE);
                self.require(allowed, at, checker, || {
                    format!("must be 512, 1024, 2048 or 4096, is {size}")
                });
                sector = if allowed { size } else { sector };
            }
        }
        let found = self.member((&path, segment, "offset"), checker, Json::number_in_text);
        if let Some((offset, json)) = found {
            // At 0 the payload is in a file of its own.
            let behind = offset == 0 || end.is_none_or(|end| offset >= end);
            let aligned = offset.is_multiple_of(512);
            let at = (&member("offset")[..], json, rules::SEGMENT_OFFSET);
            self.require(behind && aligned, at, checker, || {
                format!("must be a multiple of 512 behind the keyslots, is {offset}")
            });
            let inside = offset <= self.source.len() || is_backup(segment);
            let at = (&member("offset")[..], json, rules::SEGMENT_INSIDE);
            self.require(inside, at, checker, || {
                format!("{offset} is past the end of the file")
            });
        }
        let Some((size, json)) = self.member((&path, segment, "size"), checker, Json::text) else {
            return;
        };
        let number = json.number_in_text();
        let whole = number.is_some_and(|size| size > 0 && size.is_multiple_of(sector));
        let at = (&member("size")[..], json, rules::SEGMENT_SIZE);
        self.require(whole || size == "dynamic", at, checker, || {
            let size = size.escape_default();
            format!("must be 'dynamic' or a multiple of {sector}, is '{size}'")
        });
    }

    /// The type of an object, which should be one of these.
    fn type_of<'j>(
        &self,
        (path, object): (&str, &'j Json),
        known: &[&str],
        checker: &mut Checker,
    ) -> Option<&'j str> {
        let (kind, json) = self.member((path, object, "type"), checker, Json::text)?;
        let at = (&format!("{path}.type")[..], json, rules::JSON_TYPE);
        self.require(known.contains(&kind), at, checker, || {
            format!("'{}' is not known", kind.escape_default())
        });
        Some(kind)
    }

    fn hash(&self, (path, object): (&str, &Json), checker: &mut Checker) {
        let Some((name, json)) = self.member((path, object, "hash"), checker, Json::text) else {
            return;
        };
        let known = Hash::from_name(name.as_bytes()).is_some();
        let at = (&format!("{path}.hash")[..], json, rules::ALGORITHM);
        self.require(known, at, checker, || {
            format!("the hash '{}' is not a known one", name.escape_default())
        });
    }

    /// The cipher of an object, and the size of its key in bytes.
    fn encryption(
        &self,
        (path, object): (&str, &Json),
        key_size: Option<u64>,
        checker: &mut Checker,
    ) {
        let Some((json, name)) = object.get("encryption").and_then(|j| Some((j, j.text()?))) else {
            return;
        };
        let scheme = Scheme::parse_whole(name.as_bytes());
        let at = (&format!("{path}.encryption")[..], json, rules::ALGORITHM);
        self.require(scheme.is_some(), at, checker, || {
            format!("the cipher '{}' is not a known one", name.escape_default())
        });
        if let (Some(scheme), Some(size), Some(json)) = (scheme, key_size, object.get("key_size")) {
            let at = (&format!("{path}.key_size")[..], json, rules::KEY_SIZE);
            self.require(scheme.takes_key_of(size), at, checker, || {
                format!("a key of {size} bytes does not fit the cipher")
            });
        }
    }

    fn base64(&self, (path, object, name): (&str, &Json, &str), checker: &mut Checker) {
        let Some((_, json)) = self.member((path, object, name), checker, Json::text) else {
            return;
        };
        let valid = base64(object, name).is_some_and(|bytes| !bytes.is_empty());
        let at = (&format!("{path}.{name}")[..], json, rules::BASE64);
        self.require(valid, at, checker, || "is not base64".to_owned());
    }

    /// An array of the names of objects, each of which must be there.
    fn references(
        &self,
        (path, object, name): (&str, &Json, &str),
        known: &[(&str, &Json)],
        checker: &mut Checker,
    ) {
        let is_array = |json: &Json| matches!(json.node, Node::Array(_)).then_some(());
        let Some((_, array)) = self.member((path, object, name), checker, is_array) else {
            return;
        };
        for (index, json) in array.elements().iter().enumerate() {
            let wanted = json.text().unwrap_or("");
            let there = known.iter().any(|(name, _)| *name == wanted);
            let path = format!("{path}.{name}[{index}]");
            let at = (&path[..], json, rules::JSON_REFERENCE);
            self.require(there, at, checker, || {
                format!("'{}' is not there", wanted.escape_default())
            });
        }
    }
}
