//! The numbered tests as one program: `iotest NNN`.

use std::io::Write as _;
use std::pin::Pin;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use iotests::{Env, Probes, Test, device, not_run};
use testdecl::Decl;
use tokio::signal::unix::{SignalKind, signal};

/// One test.
struct Case {
    /// Its number.
    name: &'static str,
    /// The comment its file starts with.
    header: &'static str,
    /// Its body.
    run: for<'t> fn(&'t Test) -> Body<'t>,
}

/// The running body of a test.
type Body<'t> = Pin<Box<dyn Future<Output = Result<()>> + 't>>;

include!(concat!(env!("OUT_DIR"), "/cases.rs"));

const USAGE: &str = "usage: iotest NNN [-d]\n       iotest --list\n       iotest graph [--dot]\n\nNNN  the number of a test; it reads IMGFMT, IMGPROTO, TEST_DIR and the\n     other variables of the environment\n-d   show every command line and what the programs printed, on stderr\ngraph  the ways from a machine to a disk that the emulator can make\n";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["--list"] => list(),
        ["graph"] => graph(false),
        ["graph", "--dot"] => graph(true),
        ["-h" | "--help"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        [name] | ["-d", name] | [name, "-d"] if !name.starts_with('-') => {
            end(name, run(name, args.len() == 2))
        }
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn list() -> ExitCode {
    let mut out = std::io::stdout().lock();
    for case in CASES {
        let decl = Decl::parse(case.header);
        // A reader that has gone is no error.
        let _ = writeln!(
            out,
            "{} {} [{}]",
            case.name,
            decl.summary,
            decl.groups().join(" ")
        );
    }
    ExitCode::SUCCESS
}

/// Prints the ways to a disk that this emulator can make and those it cannot, or the graph for
/// Graphviz.
fn graph(dot: bool) -> ExitCode {
    let env = match Env::from_process(false) {
        Ok(env) => env,
        Err(error) => {
            eprintln!("iotest graph: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    if env.programs.qemu.is_none() {
        eprintln!("iotest graph: no emulator was found; name it in QEMU_PROG");
        return ExitCode::FAILURE;
    }
    let emulator = device::emulator(&env, &Probes::default());
    let text = if dot {
        qtest::graph::dot(&emulator)
    } else {
        qtest::graph::text(&emulator)
    };
    // A reader that has gone is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn end(name: &str, result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("iotest {name}: failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, debug: bool) -> Result<()> {
    let padded = format!("{name:0>3}");
    let Some(case) = CASES.iter().find(|c| c.name == padded) else {
        bail!("there is no test {name}; `iotest --list` lists them");
    };
    let env = Env::from_process(debug)?;
    let decl = Decl::parse(case.header);
    if let Some(reason) = not_run(&decl, &env, &Probes::default()) {
        std::fs::create_dir_all(&env.test_dir)
            .with_context(|| format!("failed to make {}", env.test_dir.display()))?;
        let path = env.test_dir.join(format!("{}.notrun", case.name));
        std::fs::write(&path, format!("{reason}\n"))
            .with_context(|| format!("failed to write {}", path.display()))?;
        if std::env::var_os("IMGFMT").is_none() {
            println!("{} not run: {reason}", case.name);
        }
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).context("failed to watch signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("failed to watch signals")?;
        let test = Test::new(case.name, env)?;
        let result = tokio::select! {
            result = (case.run)(&test) => result,
            _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
            _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
        };
        let finished = test.finish(result.is_ok()).await;
        result.and(finished)
    })?;
    // A test that dies early cannot match its golden.
    println!("-- end of {} --", case.name);
    Ok(())
}
