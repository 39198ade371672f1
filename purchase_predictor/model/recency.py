"""What the events of the session so far amount to, fading with every later event."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from features.arrays import UNSEEN
from purchase_predictor.model.inputs import FusionBatch

FADING = (0.5, 0.75, 0.9)
"""What is left of an event after the next one: half-lives of 1, 2.4 and 6.6 events."""

MIDDLE = 1
"""The rate that pairs of events fade with."""

MAX_PAIRED = 16
"""With more types of events than this their pairs are too many to have weights of their own."""

MAX_TYPES = 64
"""Types of events with larger codes than this are read as one that training has not seen."""


class RecencyMemory(nn.Module):
    """Fading sums over the events of an impression's own session: a linear recurrence, unlearned.

    Where a user's sessions interleave, the events of the others count nothing but make these fade.

    Three sums: of each type of event; of each type of event on the impression's product; and of
    each ordered pair of types, an event counting by how fresh the earlier ones are when it comes.
    The first two terms of a path signature, with fading (Chevyrev and Kormilitzin, arXiv
    1603.03788): they tell a cart after a review from a review after a cart, which counts cannot.

    **Shape**

    - Input: a `FusionBatch` of N impressions
    - Output: ``(N, width)``, block after block as in `blocks`
    """

    def __init__(self, *, n_event_types: int):
        super().__init__()
        self.n_types = min(n_event_types, MAX_TYPES)
        self.has_pairs = n_event_types <= MAX_PAIRED
        self.blocks = [
            ("session events", self.n_types * len(FADING)),
            ("session events on the product", self.n_types * len(FADING)),
        ]
        if self.has_pairs:
            self.blocks.append(("order of session events", self.n_types**2))
        self.register_buffer("fading", torch.tensor(FADING), persistent=False)
        self.fading: Tensor

    def forward(self, batch: FusionBatch) -> Tensor:
        """Sum up for each sequence, then take for each impression what it has seen."""
        sessions = batch.sessions
        length = sessions.product.shape[1]
        known = sessions.event_type < self.n_types
        types = F.one_hot(sessions.event_type.where(known, UNSEEN), self.n_types).float()
        # 1. for each event, what its session amounts to right after it
        kernel = self._kernel(sessions.session)
        level = kernel @ types[:, None]
        parts = [level.transpose(1, 2).flatten(2)]
        if self.has_pairs:
            before = (level[:, MIDDLE] - types) / FADING[MIDDLE]
            pairs = (before[..., :, None] * types[..., None, :]).flatten(2)
            parts.append(kernel[:, MIDDLE] @ pairs)
        # 2. for each impression, what the last event of its session left, and what came since
        sequence = batch.slot // batch.n_slots
        age = batch.events_seen()[:, None] - 1 - torch.arange(length, device=sequence.device)
        own = sessions.session.index_select(0, sequence) == batch.session[:, None]
        own = own & (age >= 0)
        latest = age.masked_fill(~own, length).amin(dim=1)
        found = latest < length
        place = sequence * length + (batch.events_seen() - 1 - latest).clamp_min(0)
        left = self.fading ** latest.clamp_max(length - 1)[:, None] * found[:, None]
        shares = [left.repeat_interleave(self.n_types, dim=1), left[:, MIDDLE, None]]
        taken = [
            part.flatten(0, 1).index_select(0, place) * share
            for part, share in zip(parts, shares, strict=False)
        ]
        # 3. and the events on its product
        product = sessions.product.index_select(0, sequence)
        # row 0 is the missing product, which is not the same as another missing one
        same = own & (product == batch.product[:, None]) & (product > 0)
        weight = self.fading[:, None] ** age.clamp_min(0)[:, None] * same[:, None]
        taken.insert(1, (weight @ types.index_select(0, sequence)).flatten(1))
        return torch.cat(taken, dim=1)

    def _kernel(self, session: Tensor) -> Tensor:
        """Weight of each event (last axis) after another, [S, n_rates, L, L]."""
        age = torch.arange(session.shape[1], device=session.device)
        age = age[:, None] - age
        fading = self.fading[:, None, None] ** age.clamp_min(0) * (age >= 0)
        return fading * (session[:, :, None] == session[:, None, :])[:, None]
