"""Cut manuals (PDF, Markdown, HTML) into passages, and make questions with answers in the manual's own words."""

from __future__ import annotations

from datasets_vision.documents.build import read_documents, read_passages, write_messages
from datasets_vision.documents.passages import Block, Document, Passage, passages
from datasets_vision.documents.questions import questions
from datasets_vision.documents.server import Server

__all__ = [
    "Block",
    "Document",
    "Passage",
    "Server",
    "passages",
    "questions",
    "read_documents",
    "read_passages",
    "write_messages",
]
