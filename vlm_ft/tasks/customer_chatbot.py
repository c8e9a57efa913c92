"""Customer chatbot: what a customer wants over several turns, and the reply."""

from __future__ import annotations

from pydantic import Field

from vlm_ft.answers.kinds import Answer, OneOf
from vlm_ft.answers.task import Task, preferred_reply


class CustomerChatbot(Answer):
    """The answer to a customer's last turn."""

    intent: OneOf
    category: OneOf
    reply: str = Field(max_length=600)


TASK = Task(
    name="customer_chatbot",
    title="Customer chatbot",
    answer=CustomerChatbot,
    instruction="Answer the customer's last message.",
    class_field="intent",
    read=preferred_reply,
    sample=CustomerChatbot(
        intent="track_order",
        category="order",
        reply="Your parcel left our depot this morning; the link in your e-mail shows where it is.",
    ),
)
