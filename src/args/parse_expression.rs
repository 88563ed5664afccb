//! From the text of a filter expression to an [`Expression`].

use std::ops::Range;

use testdecl::{CACHES, FORMATS, NAMED_NEEDS, Need, PROTOCOLS, nearest};

use super::expression::{Expression, KINDS, Matcher, SUBJECTS, Subject};

/// How deep expressions may be nested.
const DEEPEST: usize = 100;

/// What the operators are, for messages.
const OPERATORS: &str = "'&', '|', '-' or the end";

/// What is wrong with an expression, and where: bytes of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ExpressionError {
    text: String,
    at: Range<usize>,
}

impl ExpressionError {
    /// What is wrong, and below it `source` with a mark under the place.
    fn under(&self, source: &str) -> String {
        let columns = |range: Range<usize>| source.get(range).map_or(0, |s| s.chars().count());
        let before = columns(0..self.at.start);
        let marks = columns(self.at.clone()).max(1);
        // A line break would put the mark in another line.
        let source = source.replace(char::is_control, " ");
        format!(
            "{}\n  {source}\n  {:before$}{}",
            self.text,
            "",
            "^".repeat(marks)
        )
    }
}

type Parsed<T> = Result<T, ExpressionError>;

/// Reads a filter expression.
///
/// # Errors
///
/// It is wrong: how, and below it the text with a mark under the place.
pub(super) fn read(text: &str) -> Result<Expression, String> {
    parse(text).map_err(|error| error.under(text))
}

fn parse(source: &str) -> Parsed<Expression> {
    let mut parser = Parser {
        source,
        at: 0,
        depth: 0,
    };
    let expression = parser.any()?;
    parser.blanks();
    if parser.at < source.len() {
        return Err(parser.expected(OPERATORS));
    }
    Ok(expression)
}

struct Parser<'s> {
    source: &'s str,
    /// What is left begins here, in bytes.
    at: usize,
    depth: usize,
}

impl<'s> Parser<'s> {
    /// Alternatives.
    fn any(&mut self) -> Parsed<Expression> {
        let mut left = self.every()?;
        while self.operator(&["|", "+"], "or") {
            left = Expression::Or(Box::new(left), Box::new(self.every()?));
        }
        Ok(left)
    }

    /// Conditions that must all hold.
    fn every(&mut self) -> Parsed<Expression> {
        let mut left = self.one()?;
        loop {
            if self.operator(&["&"], "and") {
                left = Expression::And(Box::new(left), Box::new(self.one()?));
            } else if self.operator(&["-"], "") {
                left = Expression::Minus(Box::new(left), Box::new(self.one()?));
            } else {
                return Ok(left);
            }
        }
    }

    fn one(&mut self) -> Parsed<Expression> {
        self.blanks();
        let start = self.at;
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(error(start..start + 1, "nested too deeply".to_owned()));
        }
        let expression = if self.operator(&["!"], "not") {
            Expression::Not(Box::new(self.one()?))
        } else if self.eat("(") {
            let inner = self.any()?;
            self.close("')' or an operator")?;
            inner
        } else {
            self.predicate()?
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn predicate(&mut self) -> Parsed<Expression> {
        let start = self.at;
        let letters = |c: char| !(c.is_alphanumeric() || c == '_');
        let end = self.rest().find(letters).unwrap_or(self.rest().len());
        let name = &self.rest()[..end];
        if name.is_empty() {
            return Err(self.expected("a predicate, such as group(quick)"));
        }
        self.at += end;
        let place = start..self.at;
        let bare = match name {
            "all" => Some(Expression::All),
            "none" => Some(Expression::None),
            "failed" => Some(Expression::Failed),
            "slow" => Some(Expression::Slow),
            _ => None,
        };
        let subject = SUBJECTS.iter().find(|(word, _)| *word == name);
        if bare.is_none() && subject.is_none() {
            return Err(error(place, unknown_predicate(name)));
        }
        self.blanks();
        if !self.eat("(") {
            return Err(self.expected(&format!("'(' after '{name}'")));
        }
        match (bare, subject) {
            (Some(bare), _) => {
                self.close("')'")?;
                Ok(bare)
            }
            (None, Some((_, subject))) => Ok(Expression::Is(*subject, self.matcher(*subject)?)),
            (None, None) => Err(error(place, unknown_predicate(name))),
        }
    }

    /// What stands in the parentheses of a predicate, and the closing one.
    fn matcher(&mut self, subject: Subject) -> Parsed<Matcher> {
        self.blanks();
        let start = self.at;
        let mark = ["=", "~", "#", "/"].into_iter().find(|mark| self.eat(mark));
        let made = if mark == Some("/") {
            let pattern = self.regex()?;
            let end = self.at;
            self.close("')'")?;
            Matcher::regex(&pattern).map_err(|error| (error, start..end))
        } else {
            let text = self.text()?;
            let place = start..self.at - 1;
            match mark {
                _ if text.is_empty() => Err(("expected a pattern".to_owned(), place)),
                Some("=") => Ok(Matcher::Exact(text)),
                Some("~") => Ok(Matcher::Contains(text)),
                _ => Matcher::glob(&text).map_err(|error| (error, place)),
            }
        };
        let end = self.at - 1;
        let made = made.map_err(|(text, place)| error(place, text))?;
        match unknown(subject, &made) {
            Some(text) => Err(error(start..end, text)),
            None => Ok(made),
        }
    }

    /// A text up to the closing parenthesis, less blanks around it; a backslash takes the
    /// next character as it is.
    fn text(&mut self) -> Parsed<String> {
        self.blanks();
        let start = self.at;
        let mut text = String::new();
        // How long the text is without blanks at its end.
        let mut length = 0;
        let mut chars = self.rest().char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                ')' => {
                    self.at = start + at + 1;
                    text.truncate(length);
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, next)) => {
                        text.push(next);
                        length = text.len();
                    }
                    None => break,
                },
                c => {
                    text.push(c);
                    if !c.is_whitespace() {
                        length = text.len();
                    }
                }
            }
        }
        self.at = self.source.len();
        Err(self.expected("')'"))
    }

    /// The text of a regular expression, up to its closing slash.
    fn regex(&mut self) -> Parsed<String> {
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '/' => {
                    self.at = start + at + 1;
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, '/')) => text.push('/'),
                    Some((_, next)) => text.extend([c, next]),
                    None => break,
                },
                c => text.push(c),
            }
        }
        self.at = self.source.len();
        Err(self.expected("'/'"))
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn blanks(&mut self) {
        self.at = self.source.len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }

    /// Passes over one of `signs`, or over `word` where it stands for itself.
    fn operator(&mut self, signs: &[&str], word: &str) -> bool {
        self.blanks();
        let after = self.rest().strip_prefix(word).filter(|_| !word.is_empty());
        let stands = |after: &str| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if after.is_some_and(stands) {
            self.at += word.len();
            return true;
        }
        signs.iter().any(|sign| self.eat(sign))
    }

    fn close(&mut self, what: &str) -> Parsed<()> {
        self.blanks();
        if self.eat(")") {
            return Ok(());
        }
        Err(self.expected(what))
    }

    /// That something else is expected here.
    fn expected(&self, what: &str) -> ExpressionError {
        let next = self.rest().chars().next();
        let place = self.at..self.at + next.map_or(0, char::len_utf8);
        let found = next.map_or("the end".to_owned(), |c| format!("'{c}'"));
        error(place, format!("expected {what}, found {found}"))
    }
}

fn error(at: Range<usize>, text: String) -> ExpressionError {
    ExpressionError { text, at }
}

fn unknown_predicate(name: &str) -> String {
    let bare = ["all", "none", "failed", "slow"];
    let words = SUBJECTS.iter().map(|(word, _)| *word).chain(bare);
    suggestion(&format!("unknown predicate '{name}'"), name, words)
}

/// `text`, and the nearest of `words`, or all of them.
fn suggestion<'w>(text: &str, word: &str, words: impl Iterator<Item = &'w str> + Clone) -> String {
    match nearest(word, words.clone()) {
        Some(near) => format!("{text}; did you mean '{near}'?"),
        None => format!("{text} (known: {})", words.collect::<Vec<_>>().join(", ")),
    }
}

/// What is said of a matcher that matches none of the words there are.
fn unknown(subject: Subject, matcher: &Matcher) -> Option<String> {
    let needs: Vec<&str>;
    let (what, known): (_, &[&str]) = match subject {
        Subject::Test | Subject::Group => return None,
        Subject::Format => ("format", FORMATS),
        Subject::Protocol => ("protocol", PROTOCOLS),
        Subject::Cache => ("cache mode", CACHES),
        Subject::Kind => ("kind", KINDS),
        Subject::Needs => {
            let named = |start: &str| matcher.text().starts_with(start);
            // Regular expressions may be about what follows.
            if matches!(matcher, Matcher::Regex(_) | Matcher::Contains(_))
                || NAMED_NEEDS.iter().any(|(start, _)| named(start))
            {
                return None;
            }
            needs = Need::ALL.iter().map(|(word, _, _)| *word).collect();
            ("need", &needs)
        }
    };
    if known.iter().any(|word| matcher.is_match(word)) {
        return None;
    }
    let text = format!("no {what} matches '{}'", matcher.text());
    Some(suggestion(&text, matcher.text(), known.iter().copied()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::args::expression::Candidate;
    use crate::report::sample;

    #[test]
    fn errors_point_at_the_place() {
        for (text, want) in [
            (
                "grop(quick)",
                "unknown predicate 'grop'; did you mean 'group'?\n  grop(quick)\n  ^^^^",
            ),
            (
                "all() & format(qcow3)",
                "no format matches 'qcow3'; did you mean 'qcow2'?\n  \
                 all() & format(qcow3)\n                 ^^^^^",
            ),
            (
                "test(é) &",
                "expected a predicate, such as group(quick), found the end\n  test(é) &\n           ^",
            ),
            ("test(1", "expected ')', found the end\n  test(1\n        ^"),
            (
                "(all()",
                "expected ')' or an operator, found the end\n  (all()\n        ^",
            ),
            (
                "all() all()",
                "expected '&', '|', '-' or the end, found 'a'\n  all() all()\n        ^",
            ),
            ("all(x)", "expected ')', found 'x'\n  all(x)\n      ^"),
            (
                "test",
                "expected '(' after 'test', found the end\n  test\n      ^",
            ),
            ("test( )", "expected a pattern\n  test( )\n        ^"),
            (
                "test(/a",
                "expected '/', found the end\n  test(/a\n         ^",
            ),
            ("test(/(/)", "unclosed group\n  test(/(/)\n       ^^^"),
            (
                "needs(fuze)",
                "no need matches 'fuze'; did you mean 'fuse'?\n  needs(fuze)\n        ^^^^",
            ),
        ] {
            let error = parse(text).expect_err(text).under(text);
            assert_eq!(error, want, "{error}");
        }
        let deep = "(".repeat(DEEPEST + 1);
        let error = parse(&deep).expect_err("deep");
        assert_eq!(error.text, "nested too deeply");
        assert_eq!(error.at, DEEPEST..DEEPEST + 1);
    }

    fn holds(text: &str) -> bool {
        let mut test = sample::test("030");
        test.groups = ["rw", "quick"].map(str::to_owned).into();
        test.needs = vec!["fuse".into(), "driver:quorum".into()];
        let combo = sample::combo("qcow2");
        let candidate = Candidate {
            test: &test,
            combo: &combo,
            failed: true,
            last_passed_secs: Some(9.9),
        };
        let expression = read(text).unwrap_or_else(|error| panic!("{error}"));
        expression.matches(&candidate)
    }

    #[test]
    fn predicates_look_at_the_test_and_its_combination() {
        for text in [
            "all()",
            "failed()",
            "test(030)",
            "test(30)",
            "test(=030)",
            "test(03*)",
            "test(#0?0)",
            "test(~3)",
            "test(/^0.0$/)",
            "group(quick)",
            "format(qcow*)",
            "protocol(file)",
            "cache(~back)",
            "needs(fuse)",
            "needs( driver:* )",
            "kind(script)",
        ] {
            assert!(holds(text), "{text}");
            assert!(!holds(&format!("not {text}")), "{text}");
        }
        for text in ["none()", "slow()", "test(3)", "group(qui)", "kind(rust)"] {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn not_binds_before_and_and_and_before_or() {
        for (text, want) in [
            ("none() & none() | all()", true),
            ("all() | none() & none()", true),
            ("all() or none() and none()", true),
            ("(all() | none()) & none()", false),
            ("!none() & all()", true),
            ("!(none() | all())", false),
            ("all() - all() | all()", true),
            ("all() - (all() | all())", false),
            ("all() - none() - all()", false),
            ("not not all()", true),
            ("none() + all()", true),
        ] {
            assert_eq!(holds(text), want, "{text}");
        }
    }

    fn expressions() -> impl Strategy<Value = Expression> {
        let text = || "[ -~é]{1,6}";
        let matcher = prop_oneof![
            text().prop_map(Matcher::Exact),
            text().prop_map(Matcher::Contains),
            "[a-c*?é ()]{1,6}".prop_map(|p| Matcher::glob(&p).unwrap()),
            "[a-c./ ]{1,6}|\\\\\\\\[(/)]"
                .prop_map(|p| Matcher::regex(&p).unwrap_or(Matcher::Exact("x".into()))),
        ];
        let subject = prop_oneof![Just(Subject::Test), Just(Subject::Group)];
        let leaf = prop_oneof![
            Just(Expression::All),
            Just(Expression::None),
            Just(Expression::Failed),
            Just(Expression::Slow),
            (subject, matcher).prop_map(|(s, m)| Expression::Is(s, m)),
        ];
        leaf.prop_recursive(5, 20, 2, |inner| {
            let two = (inner.clone(), inner.clone()).prop_map(|(a, b)| (Box::new(a), Box::new(b)));
            prop_oneof![
                inner.prop_map(|a| Expression::Not(Box::new(a))),
                two.clone().prop_map(|(a, b)| Expression::And(a, b)),
                two.clone().prop_map(|(a, b)| Expression::Or(a, b)),
                two.prop_map(|(a, b)| Expression::Minus(a, b)),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(expression in expressions()) {
            let shown = expression.to_string();
            prop_assert_eq!(read(&shown), Ok(expression), "{}", shown);
        }

        #[test]
        fn nothing_panics(text in "[a-c()!&|/=~# é\\\\-]{0,20}|(test|group)\\([^é]{0,8}é?\\)?") {
            let _ = read(&text);
        }
    }
}
