//! A stack as it is recorded: with the names that debug symbols give, and so that those that
//! are missing can be found later and elsewhere.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use blocks::packages::install_symbols;
use serde::{Deserialize, Serialize};

use super::symbols::Symbols;
use crate::signature::{Address, Frame, Stack};

/// A stack, innermost frame first, with the programs and libraries in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The frames.
    pub frames: Vec<TraceFrame>,
    /// The programs and libraries that the frames are in.
    pub modules: Vec<TraceModule>,
    /// The line for a shell that installs the debug symbols that are missing, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install: Option<String>,
}

/// A frame. Functions that were inlined have the address of the one that they are part of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceFrame {
    /// The function; `None` where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The source file, without the folders of a build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The name of the program's or library's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Bytes behind where the first segment of that is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Whether a call is to return there: the call itself is before it.
    #[serde(default)]
    pub is_return: bool,
}

/// A program or library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceModule {
    /// The name of its file.
    pub name: String,
    /// Where it was.
    pub path: PathBuf,
    /// Its build id in hexadecimal digits, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
}

impl Trace {
    /// The recorded stack with what `symbols` tell of it by now.
    #[must_use]
    pub fn resolve(&self, symbols: &mut Symbols) -> Self {
        for module in &self.modules {
            symbols.expect(&module.path, module.build_id.as_deref());
        }
        let frames = self.frames.iter().map(|frame| {
            let module = self
                .modules
                .iter()
                .find(|it| Some(&it.name) == frame.module.as_ref());
            frame.frame(module.map(|it| &it.path))
        });
        let stack = Stack {
            frames: frames.collect(),
        };
        let resolved = symbols.resolve(&stack);
        Self {
            frames: resolved.frames.iter().map(TraceFrame::new).collect(),
            modules: self.modules.clone(),
            install: missing(&resolved).and(self.install.clone()),
        }
    }

    /// The stack with what `symbols` tell of it.
    pub fn new(stack: &Stack, symbols: &mut Symbols) -> Self {
        let stack = symbols.resolve(stack);
        let addresses = stack.frames.iter().filter_map(|it| it.address.as_ref());
        let paths: BTreeSet<&PathBuf> = addresses.map(|it| &it.module).collect();
        let modules = paths.into_iter().map(|path| TraceModule {
            name: path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            path: path.clone(),
            build_id: symbols.build_id(path).map(str::to_owned),
        });
        let modules: Vec<_> = modules.collect();
        let install = missing(&stack).and_then(|path| {
            let build_id = symbols.build_id(path).map(str::to_owned);
            install_symbols(path, build_id.as_deref())
        });
        Self {
            frames: stack.frames.iter().map(TraceFrame::new).collect(),
            modules,
            install,
        }
    }

    /// The build ids of the programs and libraries, where they have any.
    pub fn build_ids(&self) -> Option<String> {
        let ids = self.modules.iter().filter_map(|module| {
            let id = module.build_id.as_ref()?;
            Some(format!("{} {id}", module.name))
        });
        let ids: Vec<_> = ids.collect();
        (!ids.is_empty()).then(|| format!("Build ids: {}", ids.join(", ")))
    }

    /// What the README of a finding says below the stack.
    pub fn notes(&self) -> String {
        let ids = self.build_ids().map(|ids| format!("\n{ids}.\n"));
        let install = self.install.as_ref().map(|line| {
            format!(
                "\nThe debug symbols of this build were not found. With them, `image-fuzzer \
                 reproduce` on this\nfolder shows functions, files and lines:\n\n\
                 ```sh\n{line}\n```\n"
            )
        });
        ids.into_iter().chain(install).collect()
    }
}

/// The program with a frame of which no line is known. What is missing of libraries is not
/// asked for: the bug is seldom there.
fn missing(stack: &Stack) -> Option<&PathBuf> {
    let unnamed = stack.frames.iter().filter(|frame| frame.place.is_none());
    let mut paths = unnamed.filter_map(|frame| Some(&frame.address.as_ref()?.module));
    paths.find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !name.contains(".so")
    })
}

impl TraceFrame {
    fn new(frame: &Frame) -> Self {
        let address = frame.address.as_ref();
        let module = address.and_then(|it| it.module.file_name());
        let is_named = address.is_none_or(|it| it.to_string() != frame.name);
        Self {
            function: is_named.then(|| frame.name.clone()),
            file: frame.place.as_ref().map(|(file, _)| file.clone()),
            line: frame.place.as_ref().map(|(_, line)| *line),
            module: module.map(|name| name.to_string_lossy().into_owned()),
            offset: address.map(|it| it.offset),
            is_return: address.is_some_and(|it| it.is_return),
        }
    }

    /// The frame as a debugger gave it, in the module at `path`.
    fn frame(&self, path: Option<&PathBuf>) -> Frame {
        let address = self.address();
        let name = address.as_ref().map_or("??".into(), ToString::to_string);
        let address = address.zip(path);
        Frame {
            name: self.function.clone().unwrap_or(name),
            place: self.file.clone().zip(self.line),
            address: address.map(|(address, path)| Address {
                module: path.clone(),
                ..address
            }),
        }
    }

    fn address(&self) -> Option<Address> {
        Some(Address {
            module: self.module.clone()?.into(),
            offset: self.offset?,
            is_return: self.is_return,
        })
    }
}

impl fmt::Display for TraceFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address();
        match (&self.function, &address) {
            (Some(function), _) => f.write_str(function)?,
            (None, Some(address)) => return write!(f, "{address}"),
            (None, None) => return f.write_str("??"),
        }
        if let (Some(file), Some(line)) = (&self.file, self.line) {
            write!(f, " ({file}:{line})")?;
        }
        match address {
            Some(address) => write!(f, " at {address}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Trace {
    /// One numbered frame a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, frame) in self.frames.iter().enumerate() {
            writeln!(f, "#{number} {frame}")?;
        }
        Ok(())
    }
}
