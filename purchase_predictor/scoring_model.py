"""The MLflow model: this file is logged as it is and run where the model is loaded.

Nothing is unpickled: `tracking` logs this file, the packages and the model folder.
"""

from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext

from purchase_predictor.errors import UserError
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.scoring_rows import score_rows


class ListScorer(PythonModel):
    """Scores rows of `scoring_rows`, one row per list."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model folder, once for all predictions."""
        self.predictor = PurchasePredictor.load(context.artifacts["model"])
        self.kinds = context.model_config["context"]

    def predict(
        self, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Score lists.

        Args:
            model_input: one row per list.
            params: `system`, the system that answers; the champion by default.

        Returns:
            `probabilities` and `flags`, lists as long as the row's candidates.

        Raises:
            MlflowException: the input cannot be used; the message says what to put right.
        """
        system = (params or {}).get("system") or None
        try:
            answers = score_rows(
                model_input.to_dict("records"),
                self.kinds,
                lambda tables: self.predictor.predict_proba(tables, system),
                max_title_chars=self.predictor.settings.data.max_title_chars,
            )
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return pd.DataFrame(answers, columns=["probabilities", "flags"])


mlflow.models.set_model(ListScorer())
