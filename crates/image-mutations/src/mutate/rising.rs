//! Tables whose entries must not fall, such as the offsets of cloop.

use image_formats::{Field, Kind};

use super::edits::{set, single};
use crate::edit::Edit;
use crate::map::Map;
use crate::rng::Rng;

/// An entry to another value between its neighbours: the table still rises, and what it leads to
/// begins or ends elsewhere.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let tables: Vec<Vec<&Field>> = map
        .classes()
        .map(|(_, fields)| fields)
        .filter(|fields| fields.len() > 1 && fields[0].kind == Kind::Offset)
        .collect();
    let table = rng.pick(&tables)?;
    let numbers: Vec<u64> = table
        .iter()
        .map(|field| field.value.as_uint())
        .collect::<Option<_>>()?;
    if !numbers.is_sorted() {
        return None;
    }
    let at = rng.index(table.len());
    let low = if at == 0 { 0 } else { numbers[at - 1] };
    let last = map.file_len.max(numbers[at]).saturating_add(map.cluster);
    let high = numbers.get(at + 1).copied().unwrap_or(last);
    (0..4).find_map(|_| {
        let value = match rng.below(6) {
            0 => low,
            1 => high,
            2 => numbers[at].saturating_add(1).min(high),
            3 => numbers[at].saturating_sub(1).max(low),
            _ => rng.between(low, high),
        };
        single(set(table[at], value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Formats;
    use crate::case::Maker;
    use crate::edit::Number;

    #[test]
    fn the_table_still_rises() {
        let formats = Formats::named("cloop").unwrap();
        let mut rng = Rng::from_text("rising");
        let mut drawn = 0;
        for _ in 0..12 {
            let base = formats.draw(&mut rng);
            let prepared = Maker::default().prepared(&base).unwrap();
            let Some(edits) = draw(&prepared.map, &mut rng) else {
                continue;
            };
            let [
                Edit::Set {
                    path,
                    value: Number(value),
                },
            ] = edits.as_slice()
            else {
                panic!("{edits:?}");
            };
            let mut image = prepared.image.clone();
            image.set(path, *value).unwrap();
            let offsets: Vec<u64> = image
                .used_fields()
                .filter(|field| field.path.starts_with("offset["))
                .filter_map(|field| field.value.as_uint())
                .collect();
            assert!(offsets.is_sorted(), "{path}: {offsets:?}");
            drawn += 1;
        }
        assert!(drawn > 5, "{drawn}");
    }
}
