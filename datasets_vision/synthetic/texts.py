"""Procedural contract clauses from templates and slots, each with its type."""

from __future__ import annotations

import re

from numpy.random import Generator

SLOTS: dict[str, tuple[str, ...]] = {
    "party": (
        "the supplier",
        "the customer",
        "the licensee",
        "the company",
        "either party",
        "the contractor",
        "you",
        "we",
        "the provider",
        "the buyer",
        "the seller",
        "the distributor",
        "each user",
        "the agent",
    ),
    "other": ("the other party", "the client", "the licensor", "its affiliates", "third parties", "the users"),
    "days": ("ten days", "thirty days", "sixty days", "ninety days", "one year", "two years", "six months"),
    "law": (
        "the laws of England",
        "the laws of the State of New York",
        "the laws of California",
        "German law",
        "the laws of Singapore",
        "the laws of Ireland",
        "the law of this country",
    ),
    "place": ("London", "New York", "Geneva", "Paris", "Toronto", "Delaware", "Dublin", "the county of residence"),
    "money": ("fees", "royalties", "charges", "invoices", "payments", "the purchase price", "the annual fee"),
    "thing": (
        "the services",
        "the products",
        "the software",
        "the licensed materials",
        "the platform",
        "the account",
        "the agreement",
        "the content",
        "the website",
        "the application",
        "the equipment",
        "the trademarks",
    ),
}

CLAUSES: dict[str, tuple[str, ...]] = {
    "arbitration": (
        "any dispute arising out of {thing} shall be settled by binding arbitration in {place} .",
        "{party} and {other} agree to arbitrate all claims ; no class action may be brought before an arbitrator .",
    ),
    "audit_rights": (
        "{party} shall keep complete books and records and {other} may audit and inspect them upon {days} notice .",
        "an independent accountant may examine the records of {party} to verify the {money} due under {thing} .",
    ),
    "anti_assignment": (
        "{party} may not assign or transfer {thing} without the prior written consent of {other} .",
        "any assignment of this agreement without consent shall be null and void .",
    ),
    "cap_on_liability": (
        "in no event shall the total liability of {party} exceed the {money} paid during the preceding {days} .",
        "the aggregate liability of {party} under {thing} is limited to the amounts received from {other} .",
    ),
    "choice_of_law": (
        "these terms are governed by {law} without regard to conflicts of law provisions .",
        "this agreement shall be construed and interpreted in accordance with {law} .",
    ),
    "jurisdiction": (
        "the courts of {place} have exclusive jurisdiction over any claim concerning {thing} .",
        "{party} consents to venue and personal jurisdiction in the courts located in {place} .",
    ),
    "confidentiality": (
        "{party} shall hold in confidence all information disclosed by {other} for {days} after termination .",
        "confidential information may not be disclosed to {other} except to employees who need to know it .",
    ),
    "content_removal": (
        "we may remove or edit any content that in our sole discretion violates these terms .",
        "{party} reserves the right to delete posts , reviews or other content from {thing} without notice .",
    ),
    "insurance": (
        "{party} shall maintain commercial general liability insurance and furnish certificates to {other} .",
        "insurance coverage shall remain in force for {days} after the expiry of {thing} .",
    ),
    "license_grant": (
        "{party} hereby grants to {other} a non-exclusive , worldwide , royalty-free license to use {thing} .",
        "the license to use {thing} is non-transferable and may be sublicensed only to subsidiaries .",
    ),
    "limitation_of_liability": (
        "we shall not be liable for any indirect , incidental or consequential damages arising from use of {thing} .",
        "{thing} is provided as is , and {party} disclaims liability for loss of data , profits or interruption .",
    ),
    "non_compete": (
        "{party} shall not engage in any competing business within the territory for {days} .",
        "during the term {party} will not market , develop or sell a competitive product to {other} .",
    ),
    "renewal_term": (
        "this agreement renews automatically for successive terms of {days} unless {party} gives notice .",
        "the term may be extended for {days} upon written notice of renewal to {other} .",
    ),
    "termination": (
        "we may terminate or suspend {thing} at any time , with or without cause , without notice .",
        "{party} may terminate this agreement for convenience upon {days} written notice to {other} .",
    ),
    "unilateral_change": (
        "we may modify these terms at any time ; continued use of {thing} constitutes acceptance of the changes .",
        "{party} reserves the right to change {money} and {thing} from time to time in its discretion .",
    ),
    "warranty": (
        "{party} warrants that {thing} will be free from defects in materials and workmanship for {days} .",
        "{thing} defective within {days} shall be repaired or replaced at the expense of {party} .",
    ),
}


def fill(rng: Generator, template: str) -> str:
    """A template with its slots filled at random."""
    return re.sub(r"\{(\w+)\}", lambda slot: str(rng.choice(SLOTS[slot[1]])), template)


def clause(rng: Generator) -> tuple[str, str]:
    """A clause, sometimes with a sentence that is irrelevant to its type, and the type."""
    name = str(rng.choice(list(CLAUSES)))
    text = fill(rng, str(rng.choice(CLAUSES[name])))
    if rng.random() < 0.3:
        text = f"{text} {fill(rng, '{party} shall notify {other} within {days} of any change to {thing} .')}"
    return text, name
