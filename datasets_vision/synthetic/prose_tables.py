"""The words of the procedural texts, by label."""

from __future__ import annotations

LOG_PARTS = (
    "CYLINDER",
    "INTAKE GASKET",
    "ROCKER COVER",
    "BAFFLE PLUG",
    "OIL COOLER",
    "FLAP ACTUATOR",
    "TIRE",
    "BRAKE LINE",
    "COWL",
    "EXHAUST CLAMP",
)
LOG_SIDES = {"L/H": "left", "R/H": "right", "FWD": "forward", "AFT": "aft", "#2": "number two"}
"""The shorthand for a place in a log -> the place."""

ACTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "leak": (
        ("LEAKING OIL", "HAS OIL LEAK", "SEEPING FLUID"),
        ("REPLACED {part} SEAL, LEAK CK GOOD.", "TORQUED {side} {part}, NO LEAKS NOTED."),
    ),
    "crack": (
        ("CRACKED", "HAS CRACK AT EDGE", "CRACK STARTING"),
        ("STOP DRILLED CRACK IN {part}.", "REMOVED & REPLACED {side} {part}."),
    ),
    "loose": (("LOOSE", "NOT SECURE", "HAS PLAY"), ("TIGHTENED {side} {part}.", "TORQUED {part} HARDWARE, SAFETIED.")),
    "missing_fastener": (
        ("MISSING SCREW", "HAS RIVET MISSING", "HARDWARE MISSING"),
        ("INSTALLED NEW SCREW IN {part}.", "REPLACED RIVET AT {side} {part}."),
    ),
    "worn": (("WORN BEYOND LIMITS", "WORN THIN", "CHAFED"), ("REPLACED WORN {part}.", "INSTALLED NEW {side} {part}.")),
    "corrosion": (
        ("SHOWS CORROSION", "HAS SURFACE RUST", "PITTED FROM CORROSION"),
        ("CLEANED & TREATED {side} {part}.", "REMOVED CORROSION FROM {part}, PAINTED."),
    ),
}
"""Kind of problem -> (how it is reported, the action taken)."""

GREETINGS = (
    ("Hello", "Hello! What can I do for you?"),
    ("Hi, is anybody there?", "Yes, I am here to help. What is it about?"),
    ("Good morning, I have a question", "Good morning! Please go ahead."),
)

INTENTS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "track_order": (
        "order",
        ("Where is my order {number}?", "When will parcel {number} arrive?", "I'm still waiting for order {number}"),
        (
            "Order {number} is on its way; you can track it with the link in your e-mail.",
            "I looked up {number}: it left the depot and should reach you within two days.",
        ),
    ),
    "cancel_order": (
        "order",
        ("Please cancel order {number}", "I no longer want order {number}", "How do I cancel {number}?"),
        (
            "I have cancelled order {number}; you will get a confirmation by e-mail.",
            "Order {number} has been cancelled.",
        ),
    ),
    "get_refund": (
        "payment",
        (
            "I want my money back for {number}",
            "When will I get the refund for {number}?",
            "Refund order {number} please",
        ),
        (
            "The refund for {number} is on its way and will take five working days.",
            "I have started the refund for {number}.",
        ),
    ),
    "wrong_charge": (
        "payment",
        ("You charged me twice for {number}", "Bill {number} is too high", "The amount on {number} is wrong"),
        (
            "I am sorry for the mistake on {number}; the difference will be refunded to your card.",
            "I have passed bill {number} to our accounts team, which will answer within a day.",
        ),
    ),
    "reset_password": (
        "account",
        ("I forgot my password", "I cannot log in any more", "How do I set a new password?"),
        (
            "Choose 'forgot password' on the login page and follow the instructions in the e-mail.",
            "I have sent you a link for setting a new password; it is valid for an hour.",
        ),
    ),
    "close_account": (
        "account",
        ("Delete my account please", "I want to close my account", "How do I close my account and delete my data?"),
        (
            "Your account will be closed in 14 days; until then, you can change your mind.",
            "I have asked for your account to be closed.",
        ),
    ),
    "report_damage": (
        "complaint",
        ("Parcel {number} arrived broken", "The lamp from order {number} has a crack", "Order {number} is scratched"),
        (
            "I am sorry about {number}. Please send us a photo, and we will replace it.",
            "A replacement for {number} will go out today; keep the damaged one for the driver.",
        ),
    ),
    "speak_to_person": (
        "contact",
        ("I want to talk to a person", "Can a colleague call me?", "Connect me to an agent"),
        (
            "I am connecting you with a colleague; please keep this window open.",
            "A colleague will call you within the hour.",
        ),
    ),
}
"""Intent -> (category, customer messages, replies)."""

JARGON: dict[str, tuple[tuple[str, str, str], ...]] = {
    "car_body": (
        ("dent", "dent, paint intact", "R/F door skin"),
        ("scrape", "clear-coat scuff", "rear bumper cover"),
        ("bent metal", "creased panel", "L/F fender"),
    ),
    "aviation": (
        ("broken rivet", "sheared rivet", "L/H wing rib 4"),
        ("oil on the engine", "oil seep at the rocker cover gasket", "#3 cylinder"),
        ("bad tyre", "tire worn to limits", "R/H MLG"),
    ),
    "welding": (
        ("holes in the seam", "cluster porosity", "root pass"),
        ("a groove beside the seam", "undercut", "toe of the fillet weld"),
        ("seam that did not stick", "lack of fusion", "sidewall of the V-groove"),
    ),
    "hydraulics": (
        ("screaming pump", "pump cavitation", "suction line"),
        ("slow arm", "cylinder drift", "boom circuit"),
        ("dripping oil", "rod seal weep", "tilt cylinder"),
    ),
}
"""Trade -> (the layman's term, the trade's term, where)."""

REMEDIES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "car_body": (
        (
            "Note for the estimate: {plain}, {place}.",
            "{place}: {term}. R&I trim, PDR or refinish per estimate line.",
            "The car has this: {plain}. It needs fixing.",
        ),
        (
            "How do we write this up: {plain}?",
            "Write: {term}, {place}, blend adjacent panel.",
            "Just say that it has this: {plain}.",
        ),
    ),
    "aviation": (
        (
            "Log this: {plain}, {place}.",
            "{place}: {term}. Removed and replaced IAW AMM, ops ck good.",
            "We saw {plain} and put in a new one.",
        ),
        (
            "What goes into the log for {plain}?",
            "Found {term} at {place}. R&R IAW AMM.",
            "Write that something was fixed.",
        ),
    ),
    "welding": (
        (
            "Describe this at the {place}: {plain}.",
            "{term} at the {place}; gouge out, re-weld, repeat NDT.",
            "The weld has {plain}; do it again.",
        ),
        (
            "The inspector saw {plain}.",
            "Reject: {term}, {place}, exceeds the acceptance level.",
            "It does not look good.",
        ),
    ),
    "hydraulics": (
        (
            "What is wrong with the machine: {plain}?",
            "Suspect {term}; gauge the {place} and compare with relief setting.",
            "Look at the machine; it has to do with the oil.",
        ),
        (
            "Work order for {plain}?",
            "W/O: {term}, {place}. Reseal, bleed, function-test.",
            "Please repair the {plain}.",
        ),
    ),
}
"""Trade -> (request, chosen reply, rejected reply)."""

RISKS = {
    "arbitration": "high",
    "audit_rights": "medium",
    "anti_assignment": "medium",
    "cap_on_liability": "high",
    "choice_of_law": "low",
    "jurisdiction": "medium",
    "confidentiality": "low",
    "content_removal": "medium",
    "insurance": "low",
    "license_grant": "medium",
    "limitation_of_liability": "high",
    "non_compete": "high",
    "renewal_term": "medium",
    "termination": "medium",
    "unilateral_change": "high",
    "warranty": "low",
}
"""Type of clause -> its risk to the signing party: a rule for these texts, not legal advice."""

DISEASES = ("asthma", "migraine", "arthritis", "hypertension", "eczema", "diabetes", "insomnia", "anaemia")
SYMPTOMS = ("pain", "fatigue", "breathlessness", "swelling", "dizziness", "sleeplessness")

STUDIES: dict[str, tuple[tuple[str, str], ...]] = {
    "yes": (
        (
            "a {design} followed {people} adults with {condition}. {symptom} fell by half with {remedy} and "
            "stayed as it was with placebo (p < 0.001).",
            "Yes: {remedy} halved {symptom} in a {design} of {people} adults with {condition}.",
        ),
        (
            "in a {design}, {people} patients with {condition} took {remedy}; three in four reported clearly "
            "less {symptom}, against one in four of the controls.",
            "Yes: three in four of {people} patients had less {symptom} with {remedy}.",
        ),
    ),
    "no": (
        (
            "a {design} of {people} adults with {condition} found the same {symptom} with {remedy} as with "
            "placebo (p = 0.81), in all subgroups.",
            "No: {remedy} did no better than placebo against {symptom} in {people} adults.",
        ),
        (
            "{people} patients with {condition} entered a {design}. {remedy} left {symptom} unchanged, with "
            "a narrow interval around no effect.",
            "No: in a {design}, {remedy} left {symptom} unchanged.",
        ),
    ),
    "maybe": (
        (
            "a small {design} of {people} people with {condition} hinted at less {symptom} with {remedy}, "
            "but the interval was wide and included no effect.",
            "Maybe: the hint of less {symptom} with {remedy} may be chance.",
        ),
        (
            "of two studies on {condition}, one {design} saw less {symptom} with {remedy} and the other, of "
            "{people} patients, saw none.",
            "Maybe: two studies of {remedy} against {symptom} disagree.",
        ),
    ),
}
"""Decision -> (passage, answer)."""

OUTCOMES: dict[str, tuple[tuple[str, str], ...]] = {
    "supported": (
        ("we study {method} in {field} with {count} repeated experiments.", "{method} {found} {measure} by {share} %."),
        (
            "{measure} limits {field}; we test {method} on {count} samples.",
            "on every sample, {method} {found} {measure}.",
        ),
    ),
    "refuted": (
        (
            "we repeat earlier work on {method} in {field}, {count} times.",
            "against expectation, {method} {found} {measure} by {share} %.",
        ),
        (
            "does {method} help in {field}? We ran {count} trials.",
            "{method} {found} {measure}, contrary to what was believed.",
        ),
    ),
    "unclear": (
        (
            "we survey {count} papers on {method} in {field}.",
            "reports on {measure} differ, and none has enough data to decide.",
        ),
        (
            "we describe how {method} is used in {field}, with {count} examples.",
            "its effect on {measure} is left for later work.",
        ),
    ),
}
"""Verdict -> (opening, finding)."""

FAULTS: tuple[tuple[str, str, str, str, tuple[str, ...], str], ...] = (
    (
        "hydraulics",
        "leak",
        "worn seal",
        "soon",
        ("oil drips from the cylinder", "the tank loses oil overnight", "the rod is wet with oil"),
        "Replace the rod seal and check the rod for scores.",
    ),
    (
        "hydraulics",
        "weak pump",
        "worn pump",
        "soon",
        ("the arm lifts slowly when warm", "pressure stays low at full throttle"),
        "Compare the pump's flow and pressure with its rating plate.",
    ),
    (
        "cooling",
        "overheating",
        "clogged radiator",
        "urgent",
        ("the temperature warning light comes on under load", "steam comes from the hood"),
        "Stop the machine, let it cool and clean the radiator.",
    ),
    (
        "electrics",
        "no start",
        "weak battery",
        "routine",
        ("it only clicks when the key is turned", "the lights dim when starting"),
        "Charge and load-test the battery, then check the alternator.",
    ),
    (
        "electrics",
        "blown fuse",
        "short circuit",
        "soon",
        ("all work lights are dead", "the wiper fuse blows at once"),
        "Trace the circuit for a chafed wire before fitting a new fuse.",
    ),
    (
        "brakes",
        "weak brakes",
        "air in the line",
        "urgent",
        ("the pedal feels spongy", "it takes twice the distance to stop"),
        "Take it out of service and bleed the brakes.",
    ),
    (
        "brakes",
        "grinding brakes",
        "worn pads",
        "soon",
        ("braking makes a grinding noise", "the disc is scored"),
        "Fit new pads and measure the discs.",
    ),
    (
        "engine",
        "rough running",
        "worn spark plugs",
        "routine",
        ("it stumbles at idle", "it shakes and lacks power"),
        "Fit new plugs and read the fault memory.",
    ),
    (
        "engine",
        "knocking",
        "low oil",
        "urgent",
        ("a loud knock comes from the engine", "the oil warning light flickers at idle"),
        "Stop the engine and check the oil before running it again.",
    ),
    (
        "drive",
        "vibration",
        "worn bearing",
        "soon",
        ("the shaft hums and gets hot", "it vibrates at one speed"),
        "Measure the bearing's play and replace it.",
    ),
)
"""(system, fault, cause, urgency, reported signs, next step)."""
