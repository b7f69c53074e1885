"""Generation: logits to tokens. `generate` for all of them at once, `generate_steps` for each as it comes."""

from minineo.generation.arguments import GenerationArguments
from minineo.generation.generate import generate, generate_steps
from minineo.generation.outputs import GenerateBeamDecoderOnlyOutput, GenerateDecoderOnlyOutput

__all__ = [
    "GenerateBeamDecoderOnlyOutput",
    "GenerateDecoderOnlyOutput",
    "GenerationArguments",
    "generate",
    "generate_steps",
]
