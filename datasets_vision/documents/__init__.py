"""Cut manuals (PDF, Markdown, HTML) into passages, and make questions with answers in the manual's own words."""

from __future__ import annotations

from datasets_vision.documents.build import Built, read_documents, write_messages
from datasets_vision.documents.passages import Block, Document, Passage, passages
from datasets_vision.documents.questions import Question, questions
from datasets_vision.documents.server import Server

__all__ = [
    "Block",
    "Built",
    "Document",
    "Passage",
    "Question",
    "Server",
    "passages",
    "questions",
    "read_documents",
    "write_messages",
]
