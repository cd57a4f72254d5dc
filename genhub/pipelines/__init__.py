"""The pipelines as they are installed: each is the class of its file, which travels alone with the weights, and loads
its parts from the installed packages by their names."""

from genhub.hub import InstalledClasses
from genhub.pipelines import pipeline_classifier, pipeline_cosine_ddpm


class CosineDDPMPipeline(InstalledClasses, pipeline_cosine_ddpm.CosineDDPMPipeline):
    __doc__ = pipeline_cosine_ddpm.CosineDDPMPipeline.__doc__


class ImageClassificationPipeline(InstalledClasses, pipeline_classifier.ImageClassificationPipeline):
    __doc__ = pipeline_classifier.ImageClassificationPipeline.__doc__
