//! Reads a crate's source: its files, and which of them refers to which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module's name from the crate's root: `["jobs", "queue"]`.
pub type Module = Vec<String>;

/// One source file, without its tests.
struct Source {
    path: PathBuf,
    code: String,
    /// Modules that it declares for other builds than tests.
    children: BTreeSet<String>,
}

/// The crate's files by module.
pub struct Crate {
    files: BTreeMap<Module, Source>,
}

impl Crate {
    /// Reads the crate whose `lib.rs` is in `folder`.
    pub fn read(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut open = vec![(Module::new(), folder.join("lib.rs"))];
        while let Some((module, path)) = open.pop() {
            let text = fs::read_to_string(&path).unwrap();
            let code = without_tests(&without_comments_and_texts(&text));
            let children = declared(&code);
            let beside = match path.file_name().and_then(|name| name.to_str()) {
                Some("lib.rs" | "mod.rs") => path.parent().unwrap().to_owned(),
                _ => path.with_extension(""),
            };
            for child in &children {
                let file = beside.join(format!("{child}.rs"));
                let file = match file.exists() {
                    true => file,
                    false => beside.join(child).join("mod.rs"),
                };
                open.push(([&module[..], std::slice::from_ref(child)].concat(), file));
            }
            files.insert(
                module,
                Source {
                    path,
                    code,
                    children,
                },
            );
        }
        assert!(files.len() > 5, "the source is in {}", folder.display());
        Self { files }
    }

    /// Every reference from one module to another, with the file that makes it.
    pub fn references(&self) -> Vec<(Module, Module, &Path)> {
        let mut all = Vec::new();
        for (module, source) in &self.files {
            // To pass on what a child defines is not to need it.
            for path in paths(&without_exports(&source.code)) {
                if let Some(target) = self.resolve(module, &path, 0) {
                    all.push((module.clone(), target, source.path.as_path()));
                }
            }
        }
        all
    }

    /// The module that defines what `path` names as seen from `module`, if it is the crate's.
    fn resolve(&self, module: &Module, path: &[String], depth: usize) -> Option<Module> {
        let source = self.files.get(module)?;
        let mut at = module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|first| first == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            child if source.children.contains(child) => {}
            _ => return None,
        }
        while let Some(next) = rest.first() {
            if !self.files.get(&at)?.children.contains(next) {
                break;
            }
            at.push(next.clone());
            rest = &rest[1..];
        }
        // What a module passes on belongs to the module that defines it.
        let name = rest.first();
        if let (Some(name), true) = (name, depth < 8) {
            let exported = exports(&self.files.get(&at)?.code);
            let through = exported.iter().find(|path| path.last() == Some(name));
            if let Some(target) = through.and_then(|path| self.resolve(&at, path, depth + 1)) {
                return Some(target);
            }
        }
        Some(at)
    }
}

/// The code with comments and the insides of texts and characters blanked out.
fn without_comments_and_texts(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if let Some(hashes) = raw_text(&text[..at], rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = hashes + 2;
            at += rest[start..]
                .find(&end)
                .map_or(rest.len(), |i| start + i + end.len());
            code.push_str("\"\"");
        } else if rest.starts_with('"') {
            let mut end = 1;
            while end < rest.len() && !rest[end..].starts_with('"') {
                end += 1 + usize::from(rest[end..].starts_with('\\'));
                while !rest.is_char_boundary(end) {
                    end += 1;
                }
            }
            at += end + 1;
            code.push_str("\"\"");
        } else if let Some(length) = character(rest) {
            at += length;
            code.push(' ');
        } else {
            let next = rest.chars().next().unwrap();
            code.push(next);
            at += next.len_utf8();
        }
    }
    code
}

/// How many `#` a raw text that begins here has.
fn raw_text(before: &str, rest: &str) -> Option<usize> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let hashes = rest.strip_prefix('r')?;
    let count = hashes.len() - hashes.trim_start_matches('#').len();
    let starts =
        hashes[count..].starts_with('"') && !before.trim_end_matches('b').ends_with(is_name);
    starts.then_some(count)
}

/// The length of a character in quotes that begins here; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    let mut chars = inner.char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        // The escaped character may be a quote itself.
        let end = inner.get(2..)?.find('\'')?;
        return Some(1 + 2 + end + 1);
    }
    let (next, quote) = chars.next()?;
    (quote == '\'').then_some(1 + next + 1)
}

/// The code without items under `#[cfg(test)]` and the like.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find("#[cfg(") {
        let end = start
            + rest[start..]
                .find(")]")
                .map_or(rest.len() - start, |i| i + 2);
        let condition = &rest[start..end];
        if !condition.contains("(test") && !condition.contains(" test") {
            kept.push_str(&rest[..end]);
            rest = &rest[end..];
            continue;
        }
        kept.push_str(&rest[..start]);
        rest = &rest[end + item(&rest[end..])..];
    }
    kept.push_str(rest);
    kept
}

/// The length of the item at the beginning of `code`: up to its `;` or its closing brace.
fn item(code: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            '}' if depth == 1 => return at + 1,
            '}' => depth = depth.saturating_sub(1),
            ';' | ',' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// The modules that code declares in files of their own.
fn declared(code: &str) -> BTreeSet<String> {
    let words: Vec<&str> = code.split_whitespace().collect();
    words
        .windows(2)
        .filter(|pair| pair[0] == "mod")
        .filter_map(|pair| pair[1].strip_suffix(';').map(str::to_owned))
        .collect()
}

/// What `pub use` and the like pass on, as paths.
fn exports(code: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let before = rest[..at].trim_end();
        let line = &rest[at + 4..];
        if before.ends_with("pub") || before.ends_with(')') {
            tree(line, &[], &mut all);
        }
        rest = line;
    }
    all
}

/// The code without what passes on.
fn without_exports(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let before = rest[..at].trim_end();
        let is_passed_on = before.ends_with("pub") || before.ends_with(')');
        kept.push_str(&rest[..at]);
        rest = &rest[at + 4..];
        if is_passed_on {
            rest = &rest[rest.find(';').unwrap_or(rest.len())..];
        }
    }
    kept.push_str(rest);
    kept
}

/// Every path in the code that can lead to a module of the crate: those of `use`, and those
/// within the code.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    while at < code.len() {
        let rest = &code[at..];
        let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        if length == 0 {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        }
        let continues = code[..at].ends_with("::");
        if !continues && rest[length..].starts_with("::") {
            tree(rest, &[], &mut all);
        }
        at += length;
    }
    all
}

/// Reads a path, and where it ends in braces every path in them; gives back what is left.
fn tree<'a>(code: &'a str, prefix: &[String], all: &mut Vec<Vec<String>>) -> &'a str {
    let mut path = prefix.to_vec();
    let mut rest = code.trim_start();
    loop {
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner;
            loop {
                rest = rest.trim_start().trim_start_matches(',').trim_start();
                if let Some(after) = rest.strip_prefix('}') {
                    return after;
                }
                let next = tree(rest, &path, all);
                if next.len() == rest.len() {
                    return next;
                }
                rest = next;
            }
        }
        let length = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*'))
            .unwrap_or(rest.len());
        path.push(rest[..length].to_owned());
        rest = &rest[length..];
        match rest.strip_prefix("::") {
            Some(next) => rest = next,
            None => {
                // `as` gives another name; the path stays.
                let after = rest.trim_start();
                if let Some(name) = after.strip_prefix("as ") {
                    let name = name.trim_start();
                    let end = name
                        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                        .unwrap_or(name.len());
                    rest = &name[end..];
                }
                all.push(path);
                return rest;
            }
        }
    }
}
