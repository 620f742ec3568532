//! One line of the report, and the report.

use std::fmt;

use serde_json::{json, Value};

use crate::cli::error::CliError;

/// How a finding bears on `serve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// `serve` works, but something is worth knowing.
    Note,
    /// `serve` would fail.
    Fault,
}

impl Verdict {
    /// The word in the report.
    fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Fault => "fault",
        }
    }
}

/// What was found out about one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub subject: &'static str,
    /// How it bears on `serve`.
    pub verdict: Verdict,
    /// A clause or a sentence.
    pub text: String,
    /// What to do, as a sentence; may be empty.
    pub remedy: String,
}

impl Finding {
    /// Something as it should be.
    pub fn good(subject: &'static str, text: impl Into<String>) -> Self {
        Self {
            subject,
            verdict: Verdict::Good,
            text: text.into(),
            remedy: String::new(),
        }
    }

    /// Something worth knowing, and what can be done about it.
    pub fn note(subject: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            subject,
            verdict: Verdict::Note,
            text: text.into(),
            remedy: remedy.into(),
        }
    }

    /// The error that `serve` would end with.
    pub fn fault(subject: &'static str, error: CliError) -> Self {
        Self {
            subject,
            verdict: Verdict::Fault,
            text: error.message,
            remedy: error.hint,
        }
    }
}

/// All findings, in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// The number of faults.
    pub fn faults(&self) -> usize {
        let is_fault = |finding: &&Finding| finding.verdict == Verdict::Fault;
        self.findings.iter().filter(is_fault).count()
    }

    /// The report for programs: a list of findings with `subject`, `verdict` (`ok`, `note` or
    /// `fault`), `text` and `remedy`, and the number of `faults`.
    pub fn as_json(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "subject": finding.subject,
                "verdict": finding.verdict.name(),
                "text": finding.text,
                "remedy": finding.remedy,
            })
        });
        json!({ "findings": findings.collect::<Vec<_>>(), "faults": self.faults() })
    }
}

/// The report for people: a line for each finding, and its remedy below it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let verdict = finding.verdict.name();
            writeln!(f, "{verdict:6} {}: {}", finding.subject, finding.text)?;
            if !finding.remedy.is_empty() {
                writeln!(f, "       {}", finding.remedy)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_each_finding_and_its_remedy() {
        let mut report = Report::default();
        report.add(Finding::good("program", "ovis-worker 1.0"));
        report.add(Finding::note("GPU", "there is none", "Buy one."));
        report.add(Finding::fault(
            "address",
            CliError::new("it is taken", "Choose another."),
        ));
        assert_eq!(report.faults(), 1);
        assert_eq!(
            report.to_string(),
            "ok     program: ovis-worker 1.0\n\
             note   GPU: there is none\n       Buy one.\n\
             fault  address: it is taken\n       Choose another.\n"
        );
        let json = report.as_json();
        assert_eq!(json["faults"], 1);
        assert_eq!(json["findings"][1]["verdict"], "note");
        assert_eq!(json["findings"][2]["remedy"], "Choose another.");
    }
}
