"""What is read back from MLflow: artifacts of finished runs, registered models."""

from pathlib import Path

from purchase_predictor.errors import SettingsError, TrackingError
from purchase_predictor.settings import StoreSettings
from purchase_predictor.tracking import MlflowException, mlflow, opened_store

ABOUT_MODEL = (
    "Probability that an impression converts. `champion` serves; `challenger` is the latest "
    "version that did not beat it on the same validation rows, or was judged on others."
)
"""Description of a registered model."""

REGISTERED = "models:/"
CHAMPION, CHALLENGER = "champion", "challenger"
JUDGED_ON, LOG_LOSS = "validation.rows", "validation.log_loss"
"""Tags of a version: what it was judged on, and how."""


def appoint(
    settings: StoreSettings,
    name: str,
    version: str,
    *,
    log_loss: float,
    judged_on: str,
    description: str,
) -> str:
    """Give a new version of a registered model its alias.

    Without a champion it is the champion. Judged on the same validation rows as the champion and
    better, it takes its place, and the old one becomes the challenger. In all other cases it is
    the challenger: what was judged on other rows cannot be ranked, and is for a person to promote.

    Args:
        settings: the store.
        name: of the registered model.
        version: the new one.
        log_loss: on validation rows.
        judged_on: hash of these rows.
        description: of the version, Markdown.

    Returns:
        `champion` or `challenger`.

    Raises:
        TrackingError: the store cannot be reached or used.
    """
    with opened_store(settings) as client:
        client.set_model_version_tag(name, version, JUDGED_ON, judged_on)
        client.set_model_version_tag(name, version, LOG_LOSS, repr(float(log_loss)))
        client.update_model_version(name, version, description=description)
        model = client.get_registered_model(name)
        if not model.description:
            client.update_registered_model(name, description=ABOUT_MODEL)
        if CHAMPION not in model.aliases:
            client.set_registered_model_alias(name, CHAMPION, version)
            return CHAMPION
        old = client.get_model_version_by_alias(name, CHAMPION)
        same = old.tags.get(JUDGED_ON) == judged_on
        if not same or log_loss >= float(old.tags[LOG_LOSS]):
            client.set_registered_model_alias(name, CHALLENGER, version)
            return CHALLENGER
        client.set_registered_model_alias(name, CHAMPION, version)
        client.set_registered_model_alias(name, CHALLENGER, old.version)
        return CHAMPION


def find_artifact(
    settings: StoreSettings, *, experiment: str, tag: tuple[str, str], name: str, folder: Path
) -> Path | None:
    """An artifact of the latest finished run that has a tag.

    Args:
        settings: the store, and the experiment's name where the user gave one.
        experiment: its name where the settings have none.
        tag: key and value.
        name: of the artifact.
        folder: where it is put, in a folder named after the run.

    Returns:
        The file; None where no such run has it.

    Raises:
        TrackingError: the store cannot be reached or used.
    """
    with opened_store(settings) as client:
        found = client.get_experiment_by_name(settings.experiment or experiment)
        if found is None:
            return None
        runs = client.search_runs(
            [found.experiment_id],
            filter_string=f"tags.`{tag[0]}` = '{tag[1]}' and attributes.status = 'FINISHED'",
            order_by=["attributes.end_time DESC"],
        )
        for run in runs:
            if name in {item.path for item in client.list_artifacts(run.info.run_id)}:
                place = folder / run.info.run_id
                place.mkdir(parents=True, exist_ok=True)
                return Path(client.download_artifacts(run.info.run_id, name, str(place)))
    return None


def registered_model(settings: StoreSettings, uri: str, folder: Path) -> tuple[Path, str]:
    """Download the model folder of a registered model.

    Args:
        settings: the store.
        uri: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        folder: where it is put.

    Returns:
        The model folder, and `NAME/VERSION`.

    Raises:
        SettingsError: there is no such model.
        TrackingError: the store cannot be reached or used.
    """
    name, alias, version = _parts(uri)
    with opened_store(settings) as client:
        try:
            if alias:
                version = client.get_model_version_by_alias(name, alias).version
            found = f"{REGISTERED}{name}/{version}"
            place = Path(mlflow.artifacts.download_artifacts(found, dst_path=str(folder)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST" and "not found" not in str(error):
                raise
            known = sorted(model.name for model in client.search_registered_models())
            there = ", ".join(known) or "none"
            sentence = f"there is no registered model {uri}; registered are: {there}"
            raise SettingsError(sentence) from error
    models = [file.parent for file in place.rglob("panel.json")]
    if len(models) != 1:
        raise TrackingError(f"{uri} is not a model of this package")
    return models[0], f"{name}/{version}"


def _parts(uri: str) -> tuple[str, str, str]:
    """Name, alias and version of `models:/NAME@ALIAS` or `models:/NAME/VERSION`."""
    text = uri.removeprefix(REGISTERED)
    name, at, alias = text.partition("@")
    if at and name and alias:
        return name, alias, ""
    name, slash, version = text.rpartition("/")
    if slash and name and version.isdigit():
        return name, "", version
    raise SettingsError(f"{uri} names no model: write models:/NAME@ALIAS or models:/NAME/VERSION")
