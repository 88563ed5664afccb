//! Short names of the combinations of a run: without the creation options that say
//! nothing there, since no two combinations differ in them alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::Combo;
use crate::words;

/// The combinations of a run, by short names.
#[derive(Debug, Clone, Default)]
pub(super) struct ComboNames {
    combos: Vec<Arc<Combo>>,
}

impl ComboNames {
    /// Of these combinations.
    pub(super) fn new(combos: &[Arc<Combo>]) -> Self {
        Self {
            combos: combos.to_vec(),
        }
    }

    /// Whether there is more than one, so that results must say which they are of.
    pub(super) fn several(&self) -> bool {
        self.combos.len() > 1
    }

    /// Every combination, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = String> {
        self.combos.iter().map(|combo| self.name(combo))
    }

    /// The short name of `combo`: `luks-file`, or `luks-file (iter-time=20)` where others
    /// differ from it in their options alone.
    pub(super) fn name(&self, combo: &Combo) -> String {
        let plain = without_options(combo);
        let twins = self.combos.iter().filter(|c| without_options(c) == plain);
        if twins.filter(|c| c.options != combo.options).count() > 0 {
            words::combo(combo)
        } else {
            words::combo(&plain)
        }
    }

    /// The options that the names leave out: `luks: iter-time=10; vmdk: zeroed_grain=on`, or
    /// those alone that all share; `None` where there are none.
    pub(super) fn options(&self) -> Option<String> {
        let left_out = |combo: &&Arc<Combo>| {
            !combo.options.is_empty() && self.name(combo) == words::combo(&without_options(combo))
        };
        let mut formats: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let with_options: Vec<_> = self.combos.iter().filter(left_out).collect();
        for combo in &with_options {
            let formats = formats.entry(&combo.options).or_default();
            if !formats.contains(&combo.format.as_str()) {
                formats.push(&combo.format);
            }
        }
        let shared = with_options.len() == self.combos.len() && formats.len() == 1;
        let text: Vec<String> = formats
            .iter()
            .map(|(options, formats)| match shared {
                true => (*options).to_owned(),
                false => format!("{}: {options}", formats.join(" ")),
            })
            .collect();
        (!text.is_empty()).then(|| text.join("; "))
    }
}

fn without_options(combo: &Combo) -> Combo {
    Combo {
        options: String::new(),
        ..combo.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn names(combos: &[(&str, &str)]) -> ComboNames {
        let combos = combos.iter().map(|(format, options)| {
            Arc::new(Combo {
                options: (*options).into(),
                ..sample::combo(format)
            })
        });
        ComboNames::new(&combos.collect::<Vec<_>>())
    }

    fn shown(names: &ComboNames) -> String {
        names.all().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn options_that_go_with_the_format_are_told_once() {
        let n = names(&[
            ("qcow2", ""),
            ("luks", "iter-time=10"),
            ("vmdk", "zeroed_grain=on"),
        ]);
        assert_eq!(shown(&n), "qcow2-file luks-file vmdk-file");
        let options = n.options();
        assert_eq!(
            options.as_deref(),
            Some("luks: iter-time=10; vmdk: zeroed_grain=on")
        );
        let n = names(&[("qcow2", "size=1"), ("qed", "size=1")]);
        assert_eq!(shown(&n), "qcow2-file qed-file");
        assert_eq!(n.options().as_deref(), Some("size=1"));
        assert_eq!(names(&[("qcow2", ""), ("raw", "")]).options(), None);
    }

    #[test]
    fn options_in_which_combinations_differ_stay_in_their_names() {
        let n = names(&[("qcow2", "compat=0.10"), ("qcow2", ""), ("raw", "x=1")]);
        assert_eq!(shown(&n), "qcow2-file (compat=0.10) qcow2-file raw-file");
        assert_eq!(n.options().as_deref(), Some("raw: x=1"));
    }
}
