//! Curves over the time of a campaign, as HTML.

/// The size of a curve, in units of its own.
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 90.0;

/// A curve with a title: its values, which do not fall, by the time in seconds. All but a few
/// points in each unit of its width are left out.
pub(super) fn curve(name: &str, points: impl IntoIterator<Item = (f64, f64)>) -> String {
    let points: Vec<(f64, f64)> = points.into_iter().collect();
    let most = points.iter().fold((1.0, 1.0), |most: (f64, f64), point| {
        (most.0.max(point.0), most.1.max(point.1))
    });
    let mut path: Vec<String> = points
        .iter()
        .map(|(x, y)| {
            let (x, y) = (x / most.0 * WIDTH, HEIGHT - y / most.1 * (HEIGHT - 6.0));
            format!("{x:.1} {y:.1}")
        })
        .collect();
    path.dedup();
    format!(
        "<figure><figcaption>{name}: {:.0} <span class=\"dim\">in {:.0} s</span></figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\"><path d=\"M0 {HEIGHT} L{}\"/></svg></figure>\n",
        most.1,
        most.0,
        path.join(" L")
    )
}

/// Curves beside each other.
pub(super) fn curves(curves: &[String]) -> String {
    format!("<div class=\"curves\">{}</div>\n", curves.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_that_look_the_same_are_one() {
        let points = (0..10_000).map(|number| (f64::from(number) / 1000.0, f64::from(number)));
        let text = curve("blocks", points);
        assert!(
            text.contains("blocks: 9999 <span class=\"dim\">in 10 s"),
            "{text}"
        );
        assert!(text.contains(" L320.0 6.0\"/>"), "{text}");
        assert!(text.matches(" L").count() < 4000, "{text}");
    }
}
