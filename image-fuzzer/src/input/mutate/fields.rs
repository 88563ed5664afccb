//! Any field to a boundary value of its type or its rule.

use super::edits::{MutationContext, numeric, to_boundary};
use crate::input::recipe::Edit;
use crate::rng::Rng;

/// Any numeric field; each structure is as likely as the others.
pub(super) fn draw(context: MutationContext<'_>, rng: &mut Rng) -> Option<Vec<Edit>> {
    (0..4).find_map(|_| {
        let mut fields = context.map.draw_structure(rng);
        fields.retain(|field| numeric(field));
        to_boundary(context, &fields, rng)
    })
}
