//! Settled questions.
