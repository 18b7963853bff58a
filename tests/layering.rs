//! The table of ARCHITECTURE.md says which module may use which; the code is held to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Module -> modules it may use, read from the table's rows `| module | may use |`.
fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string("ARCHITECTURE.md").unwrap();
    let (_, table) = text.split_once("| module | may use |").expect("ARCHITECTURE.md has the table of modules");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let words = |cell: &str| cell.split(',').map(|w| w.trim().trim_matches('`').to_string()).filter(|w| !w.is_empty()).collect::<BTreeSet<_>>();
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        (cells[0].trim().trim_matches('`').to_string(), words(cells[1]))
    })
    .collect()
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Top-level modules named after `crate::` in the part of a file above its unit tests.
fn used(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let lines = code.lines().map(|line| line.split("//").next().unwrap());
    let mut names = BTreeSet::new();
    for line in lines {
        for rest in line.split("crate::").skip(1) {
            let group = rest.strip_prefix('{').map(|g| g.split('}').next().unwrap().split(',').collect::<Vec<_>>());
            for item in group.unwrap_or_else(|| vec![rest]) {
                let name: String = item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                names.insert(name);
            }
        }
    }
    names
}

fn folders_of_src() -> BTreeSet<String> {
    let paths = fs::read_dir("src").unwrap().map(|e| e.unwrap().path());
    paths.filter(|p| p.is_dir()).map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn modules_use_only_what_the_architecture_allows() {
    let allowed = allowed();
    let folders = folders_of_src();
    assert_eq!(folders, allowed.keys().cloned().collect(), "the folders of src and the rows of the table");
    let mut wrong = Vec::new();
    for module in &folders {
        let mut files = Vec::new();
        rust_files(&Path::new("src").join(module), &mut files);
        for file in files {
            for name in used(&fs::read_to_string(&file).unwrap()) {
                if folders.contains(&name) && name != *module && !allowed[module].contains(&name) {
                    wrong.push(format!("{}: {module} may not use {name}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_groups_and_skips_comments_and_unit_tests() {
    let text = "use crate::{lm::Lm, sae};\n// crate::cli\nlet x = crate::corpus::f();\n#[cfg(test)]\nuse crate::explorer;";
    assert_eq!(used(text), ["corpus", "lm", "sae"].map(String::from).into());
}
