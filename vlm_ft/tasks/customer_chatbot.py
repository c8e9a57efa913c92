"""Customer chatbot: what a customer wants, and the reply; over several turns."""

from __future__ import annotations

from pydantic import Field

from datasets_vision.example import Label
from vlm_ft.answers.kinds import Answer, OneOf
from vlm_ft.answers.task import Task, Values, preferred_reply


class CustomerChatbot(Answer):
    """The answer to a customer's last turn."""

    intent: OneOf
    category: OneOf
    reply: str = Field(max_length=600)


def read(label: Label) -> Values:
    """A folder's class is the intent; the reply is that of a preference pair where there is one."""
    intent = {} if label.image_class is None else {"intent": label.image_class}
    return {**intent, **preferred_reply(label)}


TASK = Task(
    name="customer_chatbot",
    title="Customer chatbot",
    answer=CustomerChatbot,
    instruction="Answer the customer's last message.",
    read=read,
    sample=CustomerChatbot(
        intent="track_order",
        category="order",
        reply="Your parcel left our depot this morning; the link in your e-mail shows where it is.",
    ),
)
