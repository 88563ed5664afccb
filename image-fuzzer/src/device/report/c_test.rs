//! A test in C, as those of QEMU's `tests/qtest`.

use std::fmt::Write as _;

use qtest::{Op, Width};

use super::essential;
use crate::commands::quote;
use crate::device::program::{Program, Step};
use crate::device::store::Finding;

/// The longest string of arguments in one line.
const LINE: usize = 60;

/// The text of a test that shows a finding: an emulator that ends makes it fail.
#[must_use]
pub fn c_test(finding: &Finding, program: &Program) -> String {
    let name = identifier(&finding.machine.name);
    let mut text = format!(
        "/*\n * QTest testcase: {}\n *\n * Found by image-fuzzer in {}.\n *\n \
         * SPDX-License-Identifier: GPL-2.0-or-later\n */\n\n\
         #include \"qemu/osdep.h\"\n\n#include \"libqtest.h\"\n\n\
         /* {} */\n\
         static void test_{name}(void)\n{{\n    QTestState *s;\n\n    s = qtest_init(",
        comment(&finding.key.signature.to_string()),
        comment(&finding.version),
        comment(&finding.summary),
    );
    text.push_str(&arguments(&essential(&finding.machine)));
    text.push_str(");\n");
    for step in &program.steps {
        let _ = writeln!(text, "    {}", call(step));
    }
    // The virtual clock of the accelerator qtest stands still between steps.
    text.push_str("    qtest_clock_step(s, 1000000000);\n    qtest_quit(s);\n}\n\n");
    let _ = write!(
        text,
        "int main(int argc, char **argv)\n{{\n    g_test_init(&argc, &argv, NULL);\n\n    \
         qtest_add_func(\"fuzz/{name}\", test_{name});\n\n    return g_test_run();\n}}\n"
    );
    text
}

/// The arguments as strings that C joins.
fn arguments(words: &[&str]) -> String {
    let mut lines = vec![String::new()];
    for word in words {
        // libqtest has a shell split them.
        let word = quote(word);
        let full = lines
            .last()
            .is_some_and(|line| !line.is_empty() && line.len() + word.len() > LINE);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(&word);
            line.push(' ');
        }
    }
    if let Some(last) = lines.last_mut() {
        last.truncate(last.trim_end().len());
    }
    let strings = lines.iter().map(|line| {
        let escaped = line.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{escaped}\"")
    });
    strings.collect::<Vec<_>>().join("\n                   ")
}

fn call(step: &Step) -> String {
    let op = match step {
        Step::Reset => return "qtest_system_reset(s);".into(),
        Step::Monitor(line) => {
            let text = line.replace('\\', "\\\\").replace('"', "\\\"");
            let text = text.replace('%', "%%");
            return match line.starts_with('{') {
                true => format!("qobject_unref(qtest_qmp(s, \"{text}\"));"),
                false => format!("g_free(qtest_hmp(s, \"{text}\"));"),
            };
        }
        Step::Op(op, _) => op,
    };
    let letter = |width: Width| ["b", "w", "l", "q"][width.bytes().ilog2() as usize];
    match op {
        Op::In { width, port } => format!("qtest_in{}(s, {port:#x});", letter(*width)),
        Op::Out { width, port, value } => {
            format!("qtest_out{}(s, {port:#x}, {value:#x});", letter(*width))
        }
        Op::Read { width, address } => format!("qtest_read{}(s, {address:#x});", letter(*width)),
        Op::Write {
            width,
            address,
            value,
        } => format!(
            "qtest_write{}(s, {address:#x}, {value:#x});",
            letter(*width)
        ),
        Op::ReadBlock { address, length } => format!(
            "{{\n        void *bytes = g_malloc({length:#x});\n\n        \
             qtest_bufread(s, {address:#x}, bytes, {length:#x});\n        \
             g_free(bytes);\n    }}"
        ),
        Op::WriteBlock { address, bytes } => block(*address, bytes),
        Op::Fill {
            address,
            length,
            byte,
        } => format!("qtest_memset(s, {address:#x}, {byte:#x}, {length:#x});"),
        Op::ClockStep { nanoseconds: None } => "qtest_clock_step_next(s);".into(),
        Op::ClockStep {
            nanoseconds: Some(time),
        } => format!("qtest_clock_step(s, {time});"),
        Op::InterceptIn { path } => format!("qtest_irq_intercept_in(s, \"{path}\");"),
        Op::InterceptOut { path } => format!("qtest_irq_intercept_out(s, \"{path}\");"),
        Op::Endianness => "qtest_big_endian(s);".into(),
    }
}

/// A write of memory; a long string goes over several lines.
fn block(address: u64, bytes: &[u8]) -> String {
    const BYTES: usize = 14;
    let lines = bytes.chunks(BYTES).map(|line| {
        let digits: String = line.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("\"{digits}\"")
    });
    let lines: Vec<String> = lines.collect();
    let length = bytes.len();
    if let [line] = &*lines {
        return format!("qtest_bufwrite(s, {address:#x}, {line}, {length:#x});");
    }
    let joined = lines.join("\n                   ");
    format!(
        "qtest_bufwrite(s, {address:#x},\n                   {joined},\n                   {length:#x});"
    )
}

/// A text that cannot end a comment.
fn comment(text: &str) -> String {
    text.replace("*/", "* /").replace('\n', " ")
}

/// A name as C has them.
fn identifier(text: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    text.chars().map(word).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::tests::{finding, program};
    use super::*;

    #[test]
    fn the_calls_are_those_of_libqtest() {
        let text = c_test(&finding(), &program());
        for expected in [
            "static void test_lsi(void)\n",
            "s = qtest_init(\"-nodefaults -m 128 -blockdev driver=null-co,node-name=disk ",
            "    qtest_outl(s, 0xcf8, 0x80001010);\n",
            "    qtest_bufwrite(s, 0x1000, \"\\x01\\x02\\xff\", 0x3);\n",
            "    qtest_memset(s, 0x2000, 0x7, 0x10);\n",
            "    qtest_readw(s, 0xe0000000);\n",
            "    qtest_add_func(\"fuzz/lsi\", test_lsi);\n",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }

    /// A compiler takes a test with an operation of each kind, some of them twice.
    #[test]
    fn a_test_compiles() {
        let Ok(true) = Command::new("cc")
            .arg("--version")
            .output()
            .map(|it| it.status.success())
        else {
            eprintln!("skipped: there is no cc");
            return;
        };
        let lines = "\
inb 0x1f
inw 0x20
inl 0xcfc
outb 0x1f 0xff
outw 0x20 0xffff
outl 0xcf8 0xffffffff
readb 0x0
readw 0x2
readl 0x4
readq 0xfffffffffffffff8
writeb 0x0 0xff
writew 0x2 0xffff
writel 0x4 0xffffffff
writeq 0x8 0xffffffffffffffff
read 0x1000 0x10
read 0x1000 0x10
write 0x1000 0x3 0x0102ff
memset 0x2000 0x10 0xff
clock_step
clock_step 1000
irq_intercept_in ioapic
irq_intercept_out ioapic
endianness
# monitor: device_add scsi-hd,id=a,serial=100%
# monitor: {\"execute\":\"block_resize\",\"arguments\":{\"node-name\":\"disk\",\"size\":0}}
";
        let mut program: Program = lines.parse().unwrap();
        program.steps.push(Step::Reset);
        program.steps.push(Step::op(Op::WriteBlock {
            address: 0x3000,
            bytes: (0..=255).collect(),
        }));
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("fuzz-lsi-test.c");
        let mut finding = finding();
        finding.machine.args.push("-device \"a\",b=100%".into());
        std::fs::write(&file, c_test(&finding, &program)).unwrap();
        let done = Command::new("cc")
            .args(["-fsyntax-only", "-std=gnu11", "-Wall", "-Wextra", "-Werror"])
            .args(["-I", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/libqtest")])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}");
    }

    #[test]
    fn a_comment_is_not_ended_by_what_a_program_printed() {
        let mut finding = finding();
        finding.summary = "a */ b".into();
        let text = c_test(&finding, &program());
        assert!(text.contains("/* a * / b */"), "{text}");
    }
}
