"""Settings under which a small network is trained in a second."""

from purchase_predictor.settings import load_settings
from purchase_predictor.training.shapes import ContentSizes
from tests.encoded_market import N_CATEGORIES, N_IDENTITIES, N_WORD_PIECES

SIZES = ContentSizes(N_IDENTITIES, N_CATEGORIES, N_CATEGORIES, N_WORD_PIECES)
QUICK = [
        "model.history=5", "model.d_model=16", "model.n_members=2", "model.n_layers=1",
        "pretraining.epochs=2", "pretraining.batch_events=100", "pretraining.n_negatives=8",
        "training.max_epochs=6", "training.precision=float32", "training.learning_rate=0.01",
        "training.checkpoint_every=2",
]  # fmt: skip
SETTINGS = load_settings(None, QUICK)


def quiet(_line: str) -> None:
    pass
