//! Which functions a patch changes.

use std::collections::BTreeSet;
use std::io::{self, BufRead};

/// What a patch changes in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// The file, as it is called after the change; one that is removed, as before.
    pub(super) file: String,
    /// Functions that are changed, removed or new.
    pub(super) functions: BTreeSet<String>,
    /// Whether there are changes outside of functions, other than comments.
    pub(super) elsewhere: bool,
    /// What changes there: macros and variables, by name.
    pub(super) names: BTreeSet<String>,
    /// The same of members of types: fields and constants.
    pub(super) members: BTreeSet<String>,
    /// What changed rows of tables refer to, by name: functions, as far as they are some.
    pub(super) entries: BTreeSet<String>,
}

/// Reads a patch in the unified format, as `git diff` and `git format-patch` write it. With
/// enough context, or none, functions are found by the rules of QEMU's style: what is at the
/// beginning of a line is outside of functions, but labels and directives.
///
/// # Errors
///
/// The input cannot be read.
pub(super) fn changes(mut input: impl BufRead) -> io::Result<Vec<Change>> {
    let mut reader = PatchReader::default();
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        reader.line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        line.clear();
    }
    Ok(reader.finish())
}

/// The functions in the text of a file that mention any of these names, and what else does.
pub(super) fn mentions(file: &str, text: &[u8], names: &BTreeSet<String>) -> Change {
    let mut change = Change {
        file: file.to_owned(),
        ..Change::default()
    };
    let mut side = Side::default();
    for line in String::from_utf8_lossy(text).lines() {
        let mentioned = identifiers(line).any(|word| names.contains(word));
        side.line(line, mentioned, &mut change);
    }
    side.end(&mut change);
    change
}

#[derive(Default)]
struct PatchReader {
    done: Vec<Change>,
    file: Option<Change>,
    before: Side,
    after: Side,
    /// How many lines of the hunk follow, before and after the change.
    left: (u64, u64),
}

impl PatchReader {
    fn line(&mut self, line: &str) {
        if self.left != (0, 0) {
            return self.hunk_line(line);
        }
        if let Some(rest) = line.strip_prefix("diff --git ") {
            self.begin(rest.rsplit_once(" b/").map_or("", |(_, name)| name));
        } else if let Some(name) = line.strip_prefix("--- ") {
            // Without a line of git's, a file begins here.
            if self
                .file
                .as_ref()
                .is_none_or(|it| !it.file.is_empty() && it.is_changed())
            {
                self.begin("");
            }
            self.name(name);
        } else if let Some(name) = line.strip_prefix("+++ ") {
            self.name(name);
        } else if let Some(hunk) = line.strip_prefix("@@ ") {
            self.hunk(hunk);
        } else if (line.starts_with("Binary files ") || line.starts_with("rename to "))
            && let Some(file) = &mut self.file
        {
            file.elsewhere = true;
        }
    }

    fn begin(&mut self, name: &str) {
        self.done.extend(self.file.take());
        self.file = Some(Change {
            file: name.to_owned(),
            ..Change::default()
        });
    }

    fn name(&mut self, name: &str) {
        let name = name.split('\t').next().unwrap_or_default();
        let Some(file) = self.file.as_mut().filter(|_| name != "/dev/null") else {
            return;
        };
        let short = name.strip_prefix("a/").or_else(|| name.strip_prefix("b/"));
        short.unwrap_or(name).clone_into(&mut file.file);
    }

    /// Begins a hunk: `-1,7 +1,6 @@ int function(`.
    fn hunk(&mut self, text: &str) {
        let Some((ranges, function)) = text.split_once(" @@") else {
            return;
        };
        let count = |range: &str| match range.split_once(',') {
            Some((_, count)) => count.parse().unwrap_or(0),
            None => 1,
        };
        let mut ranges = ranges.split(' ').map(count);
        self.left = (ranges.next().unwrap_or(0), ranges.next().unwrap_or(0));
        self.before = Side::within(function);
        self.after = Side::within(function);
    }

    fn hunk_line(&mut self, line: &str) {
        let Some(file) = &mut self.file else {
            self.left = (0, 0);
            return;
        };
        // Mail programs remove blanks at the ends of lines.
        let (mark, text) = match line.chars().next() {
            Some(mark @ (' ' | '+' | '-' | '\\')) => (mark, &line[1..]),
            None => (' ', ""),
            Some(_) => {
                self.left = (0, 0);
                return;
            }
        };
        let (before, after) = match mark {
            ' ' => (true, true),
            '-' => (true, false),
            '+' => (false, true),
            _ => return,
        };
        let changed = before != after;
        if before {
            self.left.0 = self.left.0.saturating_sub(1);
            self.before.line(text, changed, file);
        }
        if after {
            self.left.1 = self.left.1.saturating_sub(1);
            self.after.line(text, changed, file);
        }
        if self.left == (0, 0) {
            self.before.end(file);
            self.after.end(file);
        }
    }

    fn finish(mut self) -> Vec<Change> {
        self.done.extend(self.file.take());
        self.done
    }
}

impl Change {
    fn is_changed(&self) -> bool {
        self.elsewhere || !self.functions.is_empty()
    }
}

/// A file before or after the change, as far as it was read.
#[derive(Default)]
struct Side {
    /// The function that the line is in.
    function: Option<String>,
    /// The lines of what may become the head of a function.
    head: String,
    /// Whether one of them is changed.
    head_changed: bool,
    /// The declaration that the line is in, outside of functions.
    declaration: Option<Declaration>,
    /// The macro that the line continues.
    definition: Option<String>,
}

/// What has a body and is no function.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Declaration {
    /// A variable of this name, with its value.
    Variable(String),
    /// A type whose members have names, and the one whose declaration the line continues.
    Fields(Option<String>),
    /// A type whose constants have names.
    Constants,
}

impl Declaration {
    /// Whose head this is, or begins with this.
    fn of(head: &str) -> Option<Self> {
        if let Some((variable, _)) = head.split_once('=') {
            let name = variable
                .split('[')
                .next()
                .and_then(|it| identifiers(it).last());
            return name.map(|name| Self::Variable(name.to_owned()));
        }
        let has = |word| identifiers(head).any(|it| it == word);
        match () {
            () if head.contains('(') => None,
            () if has("enum") => Some(Self::Constants),
            () if has("struct") || has("union") => Some(Self::Fields(None)),
            () => None,
        }
    }

    /// Reads a line of its body, and notes what changes with it.
    fn line(&mut self, code: &str, changed: bool, change: &mut Change) {
        match self {
            Self::Variable(name) if changed => {
                change.names.insert(name.clone());
                change.entries.extend(identifiers(code).map(str::to_owned));
            }
            Self::Fields(open) => {
                let field = open.take().or_else(|| field(code).map(str::to_owned));
                change
                    .members
                    .extend(field.iter().filter(|_| changed).cloned());
                *open = field.filter(|_| !code.ends_with(';'));
            }
            Self::Constants if changed && !code.starts_with(['/', '*', '}', '{']) => {
                let constant = identifiers(code).next().map(str::to_owned);
                change.members.extend(constant);
            }
            Self::Variable(_) | Self::Constants => {}
        }
    }
}

/// The name of the field whose declaration begins here: `int (*call)(`, `char name[4];`,
/// `int x : 1;`.
fn field(code: &str) -> Option<&str> {
    if code.starts_with(['/', '*', '}', '{', '#']) {
        return None;
    }
    if let Some((_, pointer)) = code.split_once("(*") {
        return identifiers(pointer).next();
    }
    let declared = code.split_once(';')?.0.split(['[', ':', '=', ',']).next()?;
    identifiers(declared).last()
}

/// The identifiers in a line of code.
fn identifiers(code: &str) -> impl Iterator<Item = &str> {
    let words = code.split(|c: char| !c.is_ascii() || !is_name(c as u8));
    words.filter(|it| it.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
}

impl Side {
    /// In what begins like this.
    fn within(head: &str) -> Self {
        let function = function_name(head);
        Self {
            declaration: match function {
                Some(_) => None,
                None => Declaration::of(head),
            },
            function,
            ..Self::default()
        }
    }

    /// Notes the macro that a line defines, or continues, where it is changed.
    fn definition(&mut self, code: &str, changed: bool, change: &mut Change) {
        let defined = code.strip_prefix('#').map(str::trim_start);
        let defined = defined.and_then(|it| it.strip_prefix("define "));
        if let Some(defined) = defined {
            self.definition = identifiers(defined).next().map(str::to_owned);
        }
        let name = self.definition.as_ref();
        change.names.extend(name.filter(|_| changed).cloned());
        if !code.ends_with('\\') {
            self.definition = None;
        }
    }

    fn line(&mut self, text: &str, changed: bool, change: &mut Change) {
        let code = text.trim();
        let is_macro = self.definition.is_some() || code.starts_with('#');
        self.definition(code, changed, change);
        if is_macro && self.function.is_none() {
            change.elsewhere |= changed;
            return;
        }
        let says_nothing = code.is_empty()
            || ["/*", "*/", "* ", "//"]
                .iter()
                .any(|it| code.starts_with(it))
            || code == "*";
        match text.bytes().next() {
            Some(b'{') => self.begin(changed, change),
            Some(b'}') => {
                self.mark(code, changed, change);
                self.function = None;
                self.declaration = None;
                self.forget_head(change);
            }
            Some(first) if (first.is_ascii_alphabetic() || first == b'_') && !is_label(code) => {
                self.function = None;
                self.declaration = None;
                self.forget_head(change);
                self.add(code, changed, change);
            }
            _ if self.function.is_some() => self.mark(code, changed, change),
            _ if says_nothing => {}
            Some(b' ' | b'\t') if !self.head.is_empty() => self.add(code, changed, change),
            _ => self.mark(code, changed, change),
        }
    }

    /// Adds a line to the head of what may be a function.
    fn add(&mut self, code: &str, changed: bool, change: &mut Change) {
        self.head.push(' ');
        self.head.push_str(code);
        self.head_changed |= changed;
        if code.ends_with('{') {
            self.begin(false, change);
        } else if code.ends_with([';', '=', '\\']) {
            let variable = Declaration::of(&self.head).filter(|_| self.head.contains('='));
            if let Some(mut variable) = variable.filter(|_| self.head_changed) {
                variable.line("", true, change);
            }
            self.forget_head(change);
        }
    }

    /// The body begins.
    fn begin(&mut self, changed: bool, change: &mut Change) {
        self.function = function_name(&self.head);
        if self.function.is_none() {
            self.declaration = Declaration::of(&self.head);
        }
        let changed = changed || self.head_changed;
        self.head.clear();
        self.head_changed = false;
        self.mark("", changed, change);
    }

    fn mark(&mut self, code: &str, changed: bool, change: &mut Change) {
        match &self.function {
            Some(function) if changed => {
                change.functions.insert(function.clone());
            }
            Some(_) => {}
            None => {
                change.elsewhere |= changed;
                if let Some(declaration) = &mut self.declaration {
                    declaration.line(code, changed, change);
                }
            }
        }
    }

    /// What was read is no head of a function.
    fn forget_head(&mut self, change: &mut Change) {
        change.elsewhere |= self.head_changed;
        self.head.clear();
        self.head_changed = false;
    }

    /// The hunk ends: what is not complete may be the head of a function.
    fn end(&mut self, change: &mut Change) {
        if self.head_changed
            && !self.head.contains(';')
            && let Some(function) = function_name(&self.head)
        {
            change.functions.insert(function);
            self.head_changed = false;
        }
        self.forget_head(change);
    }
}

/// Whether a line is a label: `fail:`.
fn is_label(code: &str) -> bool {
    let name = code.strip_suffix(':').unwrap_or_default();
    !name.is_empty() && name.bytes().all(is_name) && name != "default"
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The name of the function whose head this is, or begins with this; attributes and macros
/// with arguments may stand before it.
fn function_name(head: &str) -> Option<String> {
    let mut depth = 0_usize;
    for (at, byte) in head.bytes().enumerate() {
        match byte {
            b'(' => {
                let before = head[..at].trim_end();
                let start = before.rfind(|c: char| !c.is_ascii() || !is_name(c as u8));
                let name = &before[start.map_or(0, |start| start + 1)..];
                let is_function = name.bytes().any(|byte| byte.is_ascii_lowercase())
                    && ![
                        "__attribute__",
                        "if",
                        "for",
                        "while",
                        "switch",
                        "sizeof",
                        "defined",
                    ]
                    .contains(&name);
                if depth == 0 && is_function {
                    return Some(name.to_owned());
                }
                depth += 1;
            }
            b')' => depth = depth.saturating_sub(1),
            b'=' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(patch: &str) -> Vec<(String, String, bool)> {
        let all = changes(patch.as_bytes()).unwrap().into_iter();
        all.map(|it| {
            let functions: Vec<String> = it.functions.into_iter().collect();
            (it.file, functions.join(" "), it.elsewhere)
        })
        .collect()
    }

    #[test]
    fn functions_are_found_in_whole_files() {
        let patch = "diff --git a/block/x.c b/block/x.c\nindex 1..2 100644\n\
            --- a/block/x.c\n+++ b/block/x.c\n@@ -1,22 +1,24 @@\n \
            #include \"x.h\"\n-#define A 1\n+#define A 2\n \n static int first(int a,\n                  int b)\n {\n     return a;\n }\n \n \
            static int coroutine_fn GRAPH_RDLOCK\n second(BlockDriverState *bs)\n {\n+    a();\n fail:\n-    b();\n     return 0;\n }\n \n \
            /* About the third. */\n+/* And more. */\n static void third(void)\n {\n-    if (x) {\n-    }\n }\n \
            static const int table[] = {\n+    1,\n };\n";
        let expected = ("block/x.c".to_owned(), "second third".to_owned(), true);
        assert_eq!(read(patch), [expected]);
    }

    #[test]
    fn hunks_without_context_tell_their_function() {
        let patch = "--- a/block.c\t2020\n+++ b/block.c\t2021\n\
            @@ -10 +10 @@ int bdrv_open(BlockDriverState *bs, const char *name,\n-    a();\n+    b();\n\
            @@ -20,0 +21,4 @@ int bdrv_open(BlockDriverState *bs, const char *name,\n\
            +int new_one(int a)\n+{\n+    return a;\n+}\n\
            @@ -30,1 +34,0 @@ static void gone(void)\n-static int removed(int a,\n\
            --- a/docs/a.rst\n+++ b/docs/a.rst\n@@ -1 +1 @@\n-a\n+b\n";
        assert_eq!(
            read(patch),
            [
                ("block.c".into(), "bdrv_open new_one removed".into(), false),
                ("docs/a.rst".into(), String::new(), true),
            ]
        );
    }

    #[test]
    fn a_changed_head_is_a_changed_function_and_a_prototype_is_none() {
        let patch = "diff --git a/a.c b/a.c\n--- a/a.c\n+++ b/a.c\n@@ -1,5 +1,6 @@\n \
            int other(void);\n+int prototype(int a);\n-int f(int a)\n+int f(int a, int b)\n {\n     return a;\n }\n";
        assert_eq!(read(patch), [("a.c".into(), "f".into(), true)]);
        let patch = "diff --git a/a.c b/b.c\nsimilarity index 100%\nrename from a.c\nrename to b.c\n\
            diff --git a/gone.c b/gone.c\ndeleted file mode 100644\n--- a/gone.c\n+++ /dev/null\n\
            @@ -1,4 +0,0 @@\n-void g(void) {\n-    x();\n-}\n-\n";
        assert_eq!(
            read(patch),
            [
                ("b.c".into(), String::new(), true),
                ("gone.c".into(), "g".into(), false),
            ]
        );
    }

    #[test]
    fn names_stand_before_the_first_parenthesis_that_is_no_macro_s() {
        for (head, name) in [
            (
                "static int qcow2_open(BlockDriverState *bs",
                Some("qcow2_open"),
            ),
            ("int G_GNUC_PRINTF(1, 2) print(const char *f", Some("print")),
            ("__attribute__((x)) void f(void)", Some("f")),
            ("BlockDriver bdrv_qcow2 = {", None),
            ("static int x = f(1)", None),
            ("struct X {", None),
            ("", None),
        ] {
            assert_eq!(function_name(head).as_deref(), name, "{head}");
        }
    }

    #[test]
    fn what_changes_outside_of_functions_has_a_name() {
        let whole = "@@ -1,40 +1,40 @@\n";
        let named = |body: &str| {
            let head = "--- a/a.h\n+++ b/a.h\n";
            let found = changes(format!("{head}{body}").as_bytes()).unwrap();
            let list = |all: &BTreeSet<String>| all.iter().cloned().collect::<Vec<_>>().join(" ");
            let all = &found[0].names | &found[0].members;
            (list(&all), list(&found[0].entries))
        };
        for (body, names, entries) in [
            ("-#define SIZE 1\n+#define SIZE 2\n", "SIZE", ""),
            (
                " #define MAX(a, b) \\\n-    ((a) > (b)) \n+    ((a) < (b))\n",
                "MAX",
                "",
            ),
            (
                " struct S {\n-    int a;\n+    int (*call)(int x);\n+    char name[8];\n };\n",
                "a call name",
                "",
            ),
            (
                " typedef enum E {\n     ONE,\n+    /* Two. */\n+    TWO = 2,\n };\n",
                "TWO",
                "",
            ),
            (
                " static BlockDriver bdrv_x[] = {\n-    .open = x_open,\n+    .open = y_open,\n };\n",
                "bdrv_x",
                "open x_open y_open",
            ),
            (
                "-static int limit = 3;\n+static int limit = 4;\n",
                "limit",
                "",
            ),
            (
                " struct S {\n     int (*call)(int x,\n-        int y,\n+        long y,\n         int z);\n     int k;\n };\n",
                "call",
                "",
            ),
            ("+int prototype(struct S *s);\n", "", ""),
            (" int f(void)\n {\n+    int local = 1;\n }\n", "", ""),
        ] {
            let found = named(&format!("{whole}{body}"));
            assert_eq!(found, (names.to_owned(), entries.to_owned()), "{body}");
        }
        // Git tells what a hunk is in.
        let hunk = "@@ -9 +9 @@ static const char *names[MAX] = {\n-    \"a\",\n+    \"b\",\n";
        assert_eq!(named(hunk).0, "names");
    }

    #[test]
    fn functions_and_macros_that_mention_a_name_are_found() {
        let text = b"#define TWICE (2 * SIZE)\nint x(void)\n{\n    return SIZES;\n}\n\
            int y(void)\n{\n    return SIZE;\n}\n";
        let found = mentions("a.c", text, &["SIZE".to_owned()].into());
        assert_eq!(found.functions, ["y".to_owned()].into());
        assert_eq!(found.names, ["TWICE".to_owned()].into());
    }

    #[test]
    fn any_text_is_read() {
        for text in [
            "",
            "@@ -1,9 +1 @@ x\n",
            "--- \n+++ \n@@ -1,2 +1,2 @@\nx\n",
            "diff --git \n@@ -a +b @@\n",
        ] {
            read(text);
        }
    }
}
