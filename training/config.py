"""The configuration schema: every setting of a run, typed, with its default and its documentation."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# No count is larger than what PyTorch and the file formats hold in 32 bits.
_MOST = 2**31 - 1
Positive = Annotated[int, Field(gt=0, le=_MOST)]
Count = Annotated[int, Field(ge=0, le=_MOST)]
# Sixteen halvings leave a pixel of an image of 65,536.
Stages = Annotated[tuple[Positive, ...], Field(max_length=16)]
Layers = Annotated[tuple[Positive, ...], Field(max_length=64)]
Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Bound = Annotated[float, Field(ge=-14, le=14)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of the configuration: unknown names are errors, values never change."""

    # The string below a setting is its description in docs/training.md.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Architecture(Section):
    """The network's own constructor arguments: with the image shape and the labels they rebuild it."""

    family: str = ""
    """Which network: `ae`, `vae`, `vae-gan`, `multitask`, `denoiser` or `detector`; not for a `network` of your own."""
    body: Literal["dense", "conv", "residual"] = "dense"
    """Of dense layers, of convolutions, or of residual blocks of convolutions, for photographs."""
    hidden: Layers = ()
    """Widths of the hidden dense layers, from the image to the code; the decoder mirrors them."""
    channels: Stages = ()
    """Widths of the convolutions; each comes with a halving of height and width."""
    blocks: Positive = 2
    """Residual blocks of each width."""
    latent_size: Count = 0
    """Values in the code; 0 leaves a convolutional code as wide as it comes."""
    latent_channels: Count = 0
    """Values at each position of the spatial code of a residual body; 0 for a code of `latent_size` values."""
    outputs: Literal["pixels", "logits"] = "pixels"
    """What a residual decoder returns: pixels, whose likelihood is Gaussian, or logits, for binary images."""
    activation: Literal["relu", "tanh", "gated"] = "relu"
    """Between hidden layers."""
    prior: Literal["normal", "flow"] = "normal"
    """Of a VAE's code: N(0, I), or a RealNVP flow that is trained with the network (Dinh et al. 2017)."""
    couplings: Annotated[int, Field(gt=0, le=64)] = 8
    """Affine couplings of the flow."""
    coupling_hidden: Layers = (128, 128)
    """Widths of the hidden layers of each coupling."""
    log_variances: tuple[Bound, Bound] = (-14.0, 14.0)
    """Between which a posterior's log-variances are clamped."""
    code_activation: Literal["none", "relu"] = "none"
    """On the code itself."""
    upsampling: Literal["nearest", "transposed"] = "nearest"
    """How a convolutional decoder grows: nearest neighbours and a convolution, or a transposed convolution."""
    classifier_hidden: Layers = ()
    """Widths of the hidden layers between the code and the classes of a multitask model."""
    discriminator_channels: Stages = (16, 32)
    """Widths of the convolutions of a VAE/GAN's discriminator."""
    shortcuts: bool = False
    """Whether a residual denoiser is made of blocks of two convolutions with a shortcut, and not of plain ones."""
    noise_level_input: bool = False
    """Whether a residual denoiser is given the noise level of each image."""
    score: Literal["", "max", "mean"] = ""
    """How the anomaly score of an image comes from its map, the largest value or the mean; empty: `ae` detects nothing,
    `detector` takes the largest."""
    smoothing: Annotated[float, Field(ge=0, le=64)] = 0.0
    """Standard deviation, in pixels, of the Gaussian that smooths maps of anomalies."""
    network: str = ""
    """A network of your own, as `package.module:Class`: a PyTorch module with `encode` and `decode`, or `denoise`."""
    arguments: dict[str, Any] = {}
    """What your own network is constructed with, by name."""


class Loss(Section):
    """What is minimised, in nats per image."""

    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    """Of a pixel given the reconstruction."""
    sigma: NotNegative = 0.1
    """Standard deviation of the Gaussian likelihood, in pixel values 0 to 1; 0 fits it to each image, so that smooth
    images count as much as others, as they do in a mean of PSNRs."""
    beta: NotNegative = 1.0
    """Weight of the KL divergence."""
    total_correlation: NotNegative = 1.0
    """Weight, within the KL divergence, of the total correlation of the latents, estimated among the images that one
    process takes of a batch: the beta of a beta-TC-VAE (Chen et al. 2018). It needs a vector of at most 64 numbers."""
    warm_up_epochs: NotNegative = 0.0
    """Epochs over which the weight of the KL divergence grows from 0 to beta."""
    free_bits: NotNegative = 0.0
    """Nats of KL divergence per latent dimension that cost nothing."""
    binarise: bool = False
    """Draw each pixel as a Bernoulli variable at every visit."""
    importance_samples: Positive = 1
    """Samples an image; more than 1 make it the bound of the IWAE (Burda et al. 2016)."""
    doubly_reparameterised: bool = False
    """Whether the encoder of an IWAE learns from the doubly reparameterised gradient (DReG; Tucker et al. 2019)."""
    noise: NotNegative = 0.0
    """Standard deviation of the noise that a denoiser removes, in pixel values 0 to 1; or the highest of a range."""
    noise_low: NotNegative | None = None
    """The lowest standard deviation; each image then has one of its own, drawn evenly from here to `noise`."""
    encoder_noise: NotNegative = 0.0
    """Standard deviation of the noise on what the encoder of a VAE or an autoencoder sees in training; the loss is of
    the image itself, and is judged without noise (Im et al. 2017)."""
    classification: NotNegative = 0.0
    """Weight of the cross-entropy of a multitask model."""
    classifier_noise: NotNegative = 0.0
    """Standard deviation of the noise on half of the images that the classifier of a multitask model learns from."""
    adversarial: NotNegative = 1.0
    """Weight, for the decoder of a VAE/GAN, of fooling the discriminator relative to reconstructing features."""
    gradient_penalty: NotNegative = 0.0
    """Weight of the R1 penalty on the discriminator's gradient at real images."""

    @property
    def noise_range(self) -> tuple[float, float]:
        """The lowest and highest standard deviation of the noise."""
        return self.noise if self.noise_low is None else self.noise_low, self.noise

    @property
    def judged(self) -> "Loss":
        """The same loss where models are compared: the encoder sees images as they are."""
        return self.model_copy(update={"encoder_noise": 0.0})


class Optimizer(Section):
    """Adam and its learning rate over the run."""

    learning_rate: Scale = 1e-3
    """The largest one of the schedule."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decays of Adam's means."""
    weight_decay: NotNegative = 0.0
    """Decoupled from the gradient (AdamW)."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    """How the learning rate goes over the run."""
    warm_up_share: Share = 0.1
    """Share of the run over which `one-cycle` rises."""
    clip_norm: NotNegative = 0.0
    """Largest norm of the gradient; 0 never clips. The norm is logged either way."""


class Run(Section):
    """How long, from which seed, and which weights are kept."""

    epochs: Positive
    """Passes over the training images; with `minutes`, the most of them."""
    minutes: NotNegative = 0.0
    """CPU minutes of all processes together, or minutes of each card, after which the run ends and to which the
    learning-rate schedule is fitted; 0 sets no such budget. A run with one does not repeat to the bit."""
    batch_size: Positive = 128
    """Images a step, of all processes together."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of everything random."""
    pixel_means: bool = False
    """Whether the decoder starts at the mean of the training images: its last bias becomes their logits."""
    code_spread: NotNegative = 0.0
    """Initial standard deviation, over codes from N(0, I), of what the decoder's first layer computes; 0: Glorot's."""
    ema_decay: Decay = 0.0
    """Decay per step of the moving average of the weights; 0 keeps none."""
    patience: Count = 0
    """Epochs without a better validation loss after which the run stops; 0 never stops."""
    min_delta: NotNegative = 0.0
    """By how much a validation loss must be better to count."""
    keep: Literal["best", "last"] = "best"
    """Which epoch becomes the checkpoint `best`: that of the lowest validation loss, or simply the last."""


class Data(Section):
    """Where the images come from."""

    kind: str = "digits"
    """digits, photographs, textures, mnist, fashion-mnist, folder (of images), pairs (noisy, clean), npz (or npy) or
    idx."""
    folder: str = ""
    """Folder of the files; the .npz or .npy file; or one of several IDX files of images."""
    size: Annotated[int, Field(ge=0)] = 0
    """Height and width to which the images of a folder are scaled; 0 wants them all of one size already."""
    grey: bool = False
    """Whether the images of a folder lose their colours."""
    download: str | None = None
    """Where to fetch missing IDX files; empty for the known mirrors."""
    crop: Annotated[int, Field(ge=0, le=4_096)] = 0
    """Side in pixels of the squares that are cut out of the images, which may differ in size: at random places for
    training, side by side for validation and test; 0 takes images whole."""
    flips: Literal["none", "horizontal", "all"] = "horizontal"
    """How random crops are mirrored: not at all, left to right, or in all eight ways."""

    normal: Annotated[str, Field(coerce_numbers_to_str=True)] = ""
    """To detect defects: the class, or the subfolder, of normal images; others are for the test alone. Of textures:
    brick, grass or gravel."""
    masks: str = ""
    """Folder of the masks of defects; `ground_truth` beside `test` where empty."""


class Device(Section):
    """What the run computes on, and how."""

    name: Literal["auto", "cpu", "cuda"] = "auto"
    """auto is CUDA where there is a card."""
    threads: Annotated[int, Field(ge=0, le=1_024)] = 0
    """CPU threads of one operation; 0 leaves PyTorch's choice. Small dense layers are fastest with 1."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products and convolutions; `auto` is bfloat16 on CUDA and float32 on the CPU."""
    compile: bool = False
    """Compile the network (torch.compile)."""


class Output(Section):
    """What a run writes in addition to its result; it does not affect the result."""

    save_seconds: NotNegative = 30.0
    """Time between saves of `latest`; 0 saves after every step."""
    tensorboard: bool = False
    """Write TensorBoard files too."""


class Evaluation(Section):
    """What is measured at the end beyond what is cheap."""

    nll_samples: Count = 0
    """Importance samples per image for the negative log-likelihood of binarised images; 0 leaves it out."""
    disentanglement: bool = False
    """The mutual information gap (MIG) of a variational model's latents with thickness, slant and class."""


class Expected(Section):
    """Test figures of this recipe on one data set, and what it takes to get them."""

    on: str = "mnist"
    """The data set of these figures."""
    at_most: dict[str, float] = {}
    at_least: dict[str, float] = {}
    shown: tuple[str, ...] = ()
    """Measures that are shown next to a published one, without a goal."""
    minutes: NotNegative = 0.0
    """CPU time of the whole run, measures and pictures included: its wall time on a quiet core."""
    reference: str = ""
    shortfall: str = ""
    """Why a figure is missed where one is, on what evidence, and what would get there."""


class Config(Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    summary: str
    model: Architecture
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    run: Run
    data: Data = Data()
    device: Device = Device()
    output: Output = Output()
    evaluation: Evaluation = Evaluation()
    expected: Expected = Expected()
