//! Why a template is refused.

/// A refusal of a template: where, and in words what is wrong and what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{message}", path, if path.is_empty() { "" } else { ": " })]
pub struct TemplateError {
    /// Place in the template (`services.web.ports[1]`); empty: the template as a whole.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

impl TemplateError {
    /// A refusal of what stands at this place.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// What reading answers.
pub(super) type Result<T> = std::result::Result<T, TemplateError>;

/// Most notes that a template gets; beyond that one says that there are more.
const MAX_NOTES: usize = 100;

/// What has no effect, in words, each said once.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<String>);

impl Notes {
    /// Adds a note unless it was said.
    pub(super) fn add(&mut self, path: &str, message: &str) {
        let note = if path.is_empty() { message.to_owned() } else { format!("{path}: {message}") };
        if self.0.len() < MAX_NOTES && !self.0.contains(&note) {
            self.0.push(note);
        } else if self.0.len() == MAX_NOTES {
            self.0.push("there are more such notes".to_owned());
        }
    }

    /// All that were added.
    pub(super) fn into_vec(self) -> Vec<String> {
        self.0
    }
}
