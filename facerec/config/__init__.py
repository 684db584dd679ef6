"""Configuration: the schema, and strict reading of YAML."""

from facerec.config.load import config_from_dict, config_to_dict, load_config
from facerec.config.schema import Config

__all__ = ["Config", "config_from_dict", "config_to_dict", "load_config"]
