"""What can be wrong with a model. All are told to the operator with the command that helps."""

from mediaserver.kernel.errors import ConfigurationError


class ModelMissing(ConfigurationError):
    """The model is not on this machine."""

    code, title = "model_missing", "Model missing"


class ModelDamaged(ConfigurationError):
    """Files of the model are missing, or are not what they should be."""

    code, title = "model_damaged", "Model damaged"


class ModelUnavailable(ConfigurationError):
    """The model could not be fetched."""

    code, title = "model_unavailable", "Model not fetched"
